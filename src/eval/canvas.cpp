#include "eval/canvas.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include "crema/error.hpp"

namespace crema {
namespace {

constexpr double kOutput = 2;  // pixels of the picture per nominal pixel
constexpr double kInk = 4;  // pixels drawn per nominal pixel; scaled down at the end, which smooths the text
constexpr int kShift = 4;   // fractional bits of a coordinate
constexpr int kFont = cv::FONT_HERSHEY_SIMPLEX;
constexpr double kCapHeight = 21;  // of that font at scale 1

cv::Point Fixed(cv::Point2d p) {
  return {cv::saturate_cast<int>(p.x * kInk * (1 << kShift)),
          cv::saturate_cast<int>(p.y * kInk * (1 << kShift))};
}
int Thick(double thickness) {
  return std::max(1, static_cast<int>(std::lround(thickness * kInk)));
}
int Stroke(double size, bool bold) {
  return Thick(size * (bold ? 0.19 : 0.12));
}

cv::Rect Whole(cv::Rect2d box, const cv::Mat& pixels) {
  const int x0 = cvRound(box.x * kInk), y0 = cvRound(box.y * kInk);
  const int x1 = cvRound((box.x + box.width) * kInk), y1 = cvRound((box.y + box.height) * kInk);
  return cv::Rect(x0, y0, std::max(0, x1 - x0), std::max(0, y1 - y0)) & cv::Rect({0, 0}, pixels.size());
}

}  // namespace

Canvas::Canvas(double width, double height)
    : width_(width),
      height_(height),
      pixels_(cvRound(height * kInk), cvRound(width * kInk), CV_8UC3, colours::kPaper) {}

void Canvas::Line(cv::Point2d a, cv::Point2d b, const Colour& colour, double thickness) {
  cv::line(pixels_, Fixed(a), Fixed(b), colour, Thick(thickness), cv::LINE_AA, kShift);
}

void Canvas::Polyline(const std::vector<cv::Point2d>& points, const Colour& colour, double thickness) {
  std::vector<cv::Point> fixed;
  for (const cv::Point2d& p : points) fixed.push_back(Fixed(p));
  if (fixed.size() > 1) cv::polylines(pixels_, fixed, false, colour, Thick(thickness), cv::LINE_AA, kShift);
}

void Canvas::DashedLine(cv::Point2d a, cv::Point2d b, const Colour& colour, double thickness) {
  const cv::Point2d step = b - a;
  const double length = std::hypot(step.x, step.y), period = 7;
  for (double s = 0; s < length; s += period)
    Line(a + step * (s / length), a + step * (std::min(s + 4, length) / length), colour, thickness);
}

void Canvas::Fill(cv::Rect2d box, const Colour& colour, double opacity) {
  cv::Mat part = pixels_(Whole(box, pixels_));
  if (part.empty()) return;
  cv::Mat ink(part.size(), part.type(), colour);
  cv::addWeighted(ink, opacity, part, 1 - opacity, 0, part);
}

void Canvas::Frame(cv::Rect2d box, const Colour& colour, double thickness) {
  cv::rectangle(pixels_, Whole(box, pixels_), colour, Thick(thickness), cv::LINE_AA);
}

void Canvas::Dot(cv::Point2d centre, double radius, const Colour& colour) {
  const int scale = static_cast<int>(kInk) << kShift;
  cv::circle(pixels_, Fixed(centre), cvRound((radius + 1.2) * scale), colours::kPaper, cv::FILLED,
             cv::LINE_AA, kShift);
  cv::circle(pixels_, Fixed(centre), cvRound(radius * scale), colour, cv::FILLED, cv::LINE_AA, kShift);
}

double Canvas::TextWidth(const std::string& text, double size, bool bold) {
  int baseline = 0;
  return cv::getTextSize(text, kFont, size * kInk / kCapHeight, Stroke(size, bold), &baseline).width / kInk;
}

void Canvas::Text(const std::string& text, cv::Point2d at, double size, const Colour& colour, Align align,
                  bool bold) {
  const double width = TextWidth(text, size, bold);
  if (align == Align::kCentre) at.x -= width / 2;
  if (align == Align::kRight) at.x -= width;
  cv::putText(pixels_, text, {cvRound(at.x * kInk), cvRound(at.y * kInk)}, kFont, size * kInk / kCapHeight,
              colour, Stroke(size, bold), cv::LINE_AA);
}

void Canvas::TextUpwards(const std::string& text, cv::Point2d centre, double size, const Colour& colour) {
  Canvas strip(TextWidth(text, size) + 8, 2.4 * size);
  strip.Text(text, {4, 1.7 * size}, size, colour);
  cv::Mat upright;
  cv::rotate(strip.pixels_, upright, cv::ROTATE_90_COUNTERCLOCKWISE);
  const cv::Rect place(cvRound(centre.x * kInk) - upright.cols / 2,
                       cvRound(centre.y * kInk) - upright.rows / 2, upright.cols, upright.rows);
  if ((place & cv::Rect({0, 0}, pixels_.size())) == place) upright.copyTo(pixels_(place));
}

void Canvas::Image(const cv::Mat& image, cv::Rect2d box) {
  cv::Mat part = pixels_(Whole(box, pixels_));
  if (!part.empty()) cv::resize(image, part, part.size(), 0, 0, cv::INTER_CUBIC);
}

std::string Canvas::Png() const {
  cv::Mat output;
  cv::resize(pixels_, output, {}, kOutput / kInk, kOutput / kInk, cv::INTER_AREA);
  std::vector<uint8_t> bytes;
  Require(cv::imencode(".png", output, bytes, {cv::IMWRITE_PNG_COMPRESSION, 9}),
          "a picture cannot be encoded as PNG");
  return {bytes.begin(), bytes.end()};
}

// ---------------------------------------------------------------------------------------------------- charts

std::string Short(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.4g", value);
  return text;
}

std::vector<double> Ticks(const Axis& axis) {
  std::vector<double> ticks;
  if (axis.log) {
    for (double power = std::ceil(std::log10(axis.low) - 1e-9); power <= std::log10(axis.high) + 1e-9;
         ++power)
      ticks.push_back(std::pow(10, power));
    return ticks;
  }
  const double rough = (axis.high - axis.low) / 6, power = std::pow(10, std::floor(std::log10(rough)));
  const double unit = rough / power;
  const double step = power * (unit < 1.5 ? 1 : unit < 3.5 ? 2 : unit < 7.5 ? 5 : 10);
  for (double k = std::ceil(axis.low / step - 1e-6); k * step <= axis.high + 1e-6 * step; ++k)
    ticks.push_back(k == 0 ? 0 : k * step);  // not -0
  return ticks;
}

Chart::Chart(const std::string& title, const std::string& subtitle, const Axis& x, const Axis& y)
    : x_(x), y_(y), area_(78, 66, 650, 356), canvas_(760, 486) {
  canvas_.Text(title, {area_.x, 30}, 11, colours::kText, Align::kLeft, true);
  canvas_.Text(subtitle, {area_.x, 51}, 8, colours::kMuted);
  DrawAxes();
}

double Chart::X(double x) const {
  const double part = x_.log ? (std::log10(std::max(x, 1e-300)) - std::log10(x_.low)) /
                                   (std::log10(x_.high) - std::log10(x_.low))
                             : (x - x_.low) / (x_.high - x_.low);
  return area_.x + std::clamp(part, 0.0, 1.0) * area_.width;
}

double Chart::Y(double y) const {
  const double part = y_.log ? (std::log10(std::max(y, 1e-300)) - std::log10(y_.low)) /
                                   (std::log10(y_.high) - std::log10(y_.low))
                             : (y - y_.low) / (y_.high - y_.low);
  return area_.y + area_.height - std::clamp(part, 0.0, 1.0) * area_.height;
}

void Chart::DrawAxes() {
  const double left = area_.x, right = area_.x + area_.width, top = area_.y, bottom = area_.y + area_.height;
  for (double tick : Ticks(x_)) {
    canvas_.Line({X(tick), top}, {X(tick), bottom}, colours::kGrid, 0.75);
    canvas_.Text(Short(tick), {X(tick), bottom + 19}, 8, colours::kMuted, Align::kCentre);
  }
  for (double tick : Ticks(y_)) {
    canvas_.Line({left, Y(tick)}, {right, Y(tick)}, colours::kGrid, 0.75);
    canvas_.Text(Short(tick), {left - 9, Y(tick) + 4}, 8, colours::kMuted, Align::kRight);
  }
  canvas_.Line({left, bottom}, {right, bottom}, colours::kFrame, 1);
  canvas_.Line({left, top}, {left, bottom}, colours::kFrame, 1);
  canvas_.Text(x_.label, {left + area_.width / 2, bottom + 45}, 8.5, colours::kText, Align::kCentre);
  canvas_.TextUpwards(y_.label, {16, top + area_.height / 2}, 8.5, colours::kText);
}

void Chart::Curve(const std::vector<double>& x, const std::vector<double>& y, const Colour& colour,
                  double thickness) {
  std::vector<cv::Point2d> points;
  for (size_t i = 0; i < x.size(); ++i) {
    const cv::Point2d point(X(x[i]), Y(y[i]));
    // Steps finer than a quarter pixel add nothing but time.
    if (i > 0 && i + 1 < x.size() && cv::norm(point - points.back()) < 0.25) continue;
    points.push_back(point);
  }
  canvas_.Polyline(points, colour, thickness);
}

void Chart::Dashes(double x0, double y0, double x1, double y1, const Colour& colour) {
  canvas_.DashedLine({X(x0), Y(y0)}, {X(x1), Y(y1)}, colour, 1);
}

void Chart::Bar(double x0, double x1, double y, const Colour& colour) {
  const double left = X(x0) + 0.25, right = X(x1) - 0.25, top = Y(y), bottom = area_.y + area_.height;
  canvas_.Fill({left, top, right - left, bottom - top}, colour, 0.5);
}

void Chart::Dot(double x, double y, const Colour& colour) {
  canvas_.Dot({X(x), Y(y)}, 3.6, colour);
}

void Chart::Note(const std::string& text, double x, double y, double dx, double dy, Align align) {
  canvas_.Text(text, {X(x) + dx, Y(y) + dy}, 8, colours::kText, align);
}

void Chart::DrawLegend() {
  double x = area_.x + area_.width;
  for (auto entry = legend_.rbegin(); entry != legend_.rend(); ++entry) {
    x -= Canvas::TextWidth(entry->first, 8);
    canvas_.Text(entry->first, {x, 51}, 8, colours::kText);
    canvas_.Line({x - 22, 47}, {x - 7, 47}, entry->second, 3);
    x -= 40;
  }
}

std::string Chart::Png() {
  DrawLegend();
  return canvas_.Png();
}

}  // namespace crema
