// Floor 3, the evaluation wing; private. A canvas with text and a chart's axes, drawn with OpenCV:
// anti-aliased, at twice the nominal size. Used by plot.cpp.
#pragma once

#include <string>
#include <vector>

#include <opencv2/core.hpp>

namespace crema {

using Colour = cv::Scalar;  // B, G, R

namespace colours {
inline const Colour kPaper(255, 255, 255), kText(55, 41, 31), kMuted(128, 114, 107), kGrid(235, 231, 229),
    kFrame(175, 163, 156), kBlue(235, 99, 37), kOrange(12, 88, 234), kGreen(74, 163, 22), kRed(38, 38, 220),
    kPale(253, 197, 147);
}

enum class Align { kLeft, kCentre, kRight };

// Coordinates are nominal pixels, the origin at the top left.
class Canvas {
 public:
  Canvas(double width, double height);
  double width() const { return width_; }
  double height() const { return height_; }

  void Line(cv::Point2d a, cv::Point2d b, const Colour& colour, double thickness);
  void Polyline(const std::vector<cv::Point2d>& points, const Colour& colour, double thickness);
  void DashedLine(cv::Point2d a, cv::Point2d b, const Colour& colour, double thickness);
  void Fill(cv::Rect2d box, const Colour& colour, double opacity = 1);
  void Frame(cv::Rect2d box, const Colour& colour, double thickness);
  void Dot(cv::Point2d centre, double radius, const Colour& colour);
  // `size` is the height of a capital letter; `at` is on the baseline. ASCII.
  void Text(const std::string& text, cv::Point2d at, double size, const Colour& colour,
            Align align = Align::kLeft, bool bold = false);
  void TextUpwards(const std::string& text, cv::Point2d centre, double size, const Colour& colour);
  static double TextWidth(const std::string& text, double size, bool bold = false);
  void Image(const cv::Mat& image, cv::Rect2d box);

  std::string Png() const;  // the file's bytes

 private:
  double width_, height_;
  cv::Mat pixels_;
};

struct Axis {
  std::string label;
  double low = 0, high = 1;
  bool log = false;  // powers of ten
};

// A plot area with ticks, grid and labels around it.
class Chart {
 public:
  Chart(const std::string& title, const std::string& subtitle, const Axis& x, const Axis& y);

  // Data outside the axes is clipped.
  void Curve(const std::vector<double>& x, const std::vector<double>& y, const Colour& colour,
             double thickness);
  void Dashes(double x0, double y0, double x1, double y1, const Colour& colour);
  void Bar(double x0, double x1, double y, const Colour& colour);
  void Dot(double x, double y, const Colour& colour);
  void Note(const std::string& text, double x, double y, double dx, double dy, Align align);
  void AddToLegend(const std::string& label, const Colour& colour) { legend_.push_back({label, colour}); }

  std::string Png();  // adds the legend

 private:
  double X(double x) const;
  double Y(double y) const;
  void DrawAxes();
  void DrawLegend();

  Axis x_, y_;
  cv::Rect2d area_;
  Canvas canvas_;
  std::vector<std::pair<std::string, Colour>> legend_;
};

// Round values (1, 2 or 5 times a power of ten apart), or powers of ten, within an axis.
std::vector<double> Ticks(const Axis& axis);
std::string Short(double value);  // "%.4g"

}  // namespace crema
