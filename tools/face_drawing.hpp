// Floor 7. Draws a synthetic person (synthetic_face.hpp) as an image. Included by tools only.
#pragma once

#include <vector>

#include <opencv2/imgproc.hpp>

#include "synthetic_face.hpp"

namespace crema {

class FaceDrawing {
 public:
  FaceDrawing(const Person& person, const Shot& shot, int size)
      : p_(person),
        s_(shot),
        size_(size),
        dice_(MakePhilox(shot.details, "drawing")),
        canvas_(kOver * size, kOver * size, CV_8UC3) {}

  cv::Mat Draw() {
    Background();
    HairBehind();
    Body();
    Ears();
    Head();
    SkinDetails();
    for (int side : {-1, 1}) Eye(side), Brow(side);
    Nose();
    Mouth();
    HairInFront();
    if (s_.glasses) Glasses();
    if (s_.occluded) Occluder();
    return Photograph();
  }

 private:
  using Curve = std::vector<cv::Point2d>;  // in face pixels
  static constexpr int kOver = 2;          // drawn larger, then averaged
  static constexpr double kPi = 3.14159265358979;

  // ---------------------------------------------------------------------------------------------- geometry

  // Where a point of the face goes: turned by yaw and pitch, `depth` in front of the head's axis, then
  // rolled, scaled and moved. In pixels of the canvas.
  cv::Point2d Place(const cv::Point2d& point, double depth) const {
    const double x = point.x * std::cos(s_.yaw) + depth * std::sin(s_.yaw);
    const double y = point.y * std::cos(s_.pitch) + depth * std::sin(s_.pitch);
    const double c = std::cos(s_.roll) * s_.scale, n = std::sin(s_.roll) * s_.scale;
    const double unit = kOver * size_ / 112.0;
    return {(56 + s_.shift_x + c * x - n * y) * unit, (59 + s_.shift_y + n * x + c * y) * unit};
  }
  double Length(double length) const { return length * s_.scale * kOver * size_ / 112.0; }

  std::vector<cv::Point> Polygon(const Curve& curve, double depth) const {
    std::vector<cv::Point> polygon;
    for (const cv::Point2d& point : curve) {
      const cv::Point2d placed = Place(point, depth) * kSub;
      polygon.emplace_back(static_cast<int>(std::lround(placed.x)), static_cast<int>(std::lround(placed.y)));
    }
    return polygon;
  }

  // A closed curve |x / a|^n + |y / b|^n = 1 around a centre, its lower half with a height and an exponent of
  // its own.
  static Curve Oval(cv::Point2d centre, double a, double up, double down, double n_up = 2, double n_down = 2,
                    double tilt = 0) {
    constexpr int kPoints = 48;
    Curve curve;
    for (int k = 0; k < kPoints; ++k) {
      const double t = 2 * kPi * k / kPoints, c = std::cos(t), s = std::sin(t), n = s > 0 ? n_down : n_up;
      const double x = a * std::copysign(std::pow(std::abs(c), 2 / n), c);
      const double y = (s > 0 ? down : up) * std::copysign(std::pow(std::abs(s), 2 / n), s);
      curve.emplace_back(centre.x + x * std::cos(tilt) - y * std::sin(tilt),
                         centre.y + x * std::sin(tilt) + y * std::cos(tilt));
    }
    return curve;
  }
  static Curve Round(cv::Point2d centre, double radius) { return Oval(centre, radius, radius, radius); }

  Curve Outline(double factor) const {
    return Oval({0, 0}, factor * p_.face_width, factor * p_.forehead, factor * p_.chin, 2.3, p_.jaw);
  }
  // Half of the head's width above the eyes' rims.
  double HeadWidth(double y) const {
    return p_.face_width * std::pow(1 - std::pow(std::abs(y) / p_.forehead, 2.3), 1 / 2.3);
  }
  double MouthY() const { return p_.nose_tip + p_.mouth_gap; }

  // ----------------------------------------------------------------------------------------------- painting

  static constexpr int kShift = 4;
  static constexpr double kSub = 1 << kShift;

  void Fill(const Curve& curve, double depth, const cv::Scalar& color) {
    cv::fillPoly(canvas_, std::vector<std::vector<cv::Point>>{Polygon(curve, depth)}, color, cv::LINE_AA,
                 kShift);
  }
  void Line(const Curve& curve, double depth, const cv::Scalar& color, double width, bool closed = false) {
    cv::polylines(canvas_, std::vector<std::vector<cv::Point>>{Polygon(curve, depth)}, closed, color,
                  std::max(1, static_cast<int>(std::lround(Length(width)))), cv::LINE_AA, kShift);
  }
  // How much of a change each pixel takes within a curve: up to `share`, out of 255, softened by `softness`
  // pixels. `box` is where on the canvas that is.
  cv::Mat Weights(const Curve& curve, double depth, double share, double softness, cv::Rect* box) {
    std::vector<cv::Point> polygon = Polygon(curve, depth);
    const int margin = static_cast<int>(std::ceil(2 * Length(softness))) + 2;
    const cv::Rect outer = cv::boundingRect(polygon);
    *box = cv::Rect((outer.x >> kShift) - margin, (outer.y >> kShift) - margin,
                    (outer.width >> kShift) + 2 * margin, (outer.height >> kShift) + 2 * margin) &
           cv::Rect(0, 0, canvas_.cols, canvas_.rows);
    if (box->empty()) return {};
    for (cv::Point& point : polygon) point -= cv::Point(box->x * (1 << kShift), box->y * (1 << kShift));
    cv::Mat mask = cv::Mat::zeros(box->size(), CV_8U);
    cv::fillPoly(mask, std::vector<std::vector<cv::Point>>{polygon}, 255 * std::min(share, 1.0), cv::LINE_AA,
                 kShift);
    if (softness > 0) {
      const int width = 2 * std::max(1, static_cast<int>(Length(softness))) + 1;
      cv::blur(mask, mask, cv::Size(width, width));
    }
    return mask;
  }
  static void Mingle(uint8_t* to, const uint8_t* from, int weight) {
    for (int c = 0; c < 3; ++c)
      to[c] = static_cast<uint8_t>((to[c] * (255 - weight) + from[c] * weight + 127) / 255);
  }
  void Soft(const Curve& curve, double depth, const cv::Scalar& color, double share, double softness) {
    cv::Rect box;
    const cv::Mat weights = Weights(curve, depth, share, softness, &box);
    uint8_t bgr[3];
    for (int c = 0; c < 3; ++c) bgr[c] = cv::saturate_cast<uint8_t>(color[c]);
    for (int y = 0; y < weights.rows; ++y) {
      const uint8_t* weight = weights.ptr(y);
      uint8_t* to = canvas_.ptr(box.y + y, box.x);
      for (int x = 0; x < weights.cols; ++x)
        if (weight[x] > 0) Mingle(to + 3 * x, bgr, weight[x]);
    }
  }
  // What `paint` draws on a part of the canvas, whose corner it is told, within the curve.
  template <class F>
  void Within(const Curve& curve, double depth, const F& paint) {
    cv::Rect box;
    const cv::Mat weights = Weights(curve, depth, 1, 0, &box);
    if (weights.empty()) return;
    cv::Mat painted = canvas_(box).clone();
    paint(painted, box.tl());
    for (int y = 0; y < weights.rows; ++y) {
      const uint8_t *weight = weights.ptr(y), *from = painted.ptr(y);
      uint8_t* to = canvas_.ptr(box.y + y, box.x);
      for (int x = 0; x < weights.cols; ++x)
        if (weight[x] > 0) Mingle(to + 3 * x, from + 3 * x, weight[x]);
    }
  }
  static cv::Scalar Darker(const cv::Scalar& color, double share) { return color * (1 - share); }
  static cv::Scalar Lighter(const cv::Scalar& color, double share) {
    return Mix(color, Bgr(255, 255, 255), share);
  }

  // -------------------------------------------------------------------------------------------------- parts

  void Background() {
    for (int y = 0; y < canvas_.rows; ++y)
      canvas_.row(y).setTo(Mix(s_.background, s_.background_2, static_cast<double>(y) / canvas_.rows));
    for (int k = 0; k < 4; ++k) {
      const cv::Point2d centre(dice_.Uniform(-60, 60), dice_.Uniform(-60, 60));
      const double radius = dice_.Uniform(8, 40);
      Fill(Oval(centre, radius, dice_.Uniform(8, 40), dice_.Uniform(8, 40), 2, dice_.Uniform(2, 8)), 0,
           Mix(s_.background, Bgr(dice_.Uniform(0, 255), dice_.Uniform(0, 255), dice_.Uniform(0, 255)), 0.4));
    }
    cv::blur(canvas_, canvas_, cv::Size(9, 9));
  }

  double HairWidth() const { return p_.face_width + 2 + 0.8 * p_.hair_volume + s_.hair_jitter; }
  double HairTop() const { return p_.forehead + 0.8 * p_.hair_volume + 0.5 * s_.hair_jitter; }

  void HairBehind() {
    if (p_.hair_length < 0) return;
    Fill(Oval({0, 0}, HairWidth() + 2, HairTop(), p_.hair_length + 12, 2.3, 4), -12, Darker(p_.hair, 0.25));
  }

  void Body() {
    Fill(Oval({0, 82}, 62, 34, 60, 3, 3), -6, s_.clothes);
    Fill({{-17, 20}, {17, 20}, {19, 58}, {0, 66}, {-19, 58}}, -4, Darker(p_.skin, 0.22));
  }

  void Ears() {
    for (int side : {-1, 1}) {
      const cv::Point2d centre(side * (p_.face_width + 0.5), p_.ear_y);
      Fill(Oval(centre, 0.55 * p_.ear_size, p_.ear_size, p_.ear_size), -10, Darker(p_.skin, 0.1));
      Fill(Oval(centre, 0.28 * p_.ear_size, 0.6 * p_.ear_size, 0.6 * p_.ear_size), -10,
           Darker(p_.skin, 0.28));
    }
  }

  // Darker at the rim, lighter in the middle.
  void Head() {
    constexpr int kSteps = 9;
    for (int k = 0; k < kSteps; ++k) {
      const double share = static_cast<double>(k) / (kSteps - 1);
      Fill(Outline(1 - 0.4 * share), 12 * share,
           Mix(Darker(p_.skin, 0.2), Lighter(p_.skin, 0.05), std::sqrt(share)));
    }
  }

  void SkinDetails() {
    for (int side : {-1, 1}) {
      Soft(Oval({side * 0.62 * p_.face_width, 8}, 9, 7, 7), 14, Bgr(208, 92, 84), 0.10 + 0.1 * p_.cheek, 5);
      Soft(Oval({side * 0.72 * p_.face_width, 20}, 6, 12, 12), 10, Darker(p_.skin, 0.4), 0.3 * p_.cheek, 5);
      const double x = side * (p_.nose_width + 2), end = side * (p_.mouth_width + 2 + s_.smile);
      Soft({{x, p_.nose_tip}, {x + side * 2, p_.nose_tip + 1}, {end + side * 1.5, MouthY()}, {end, MouthY()}},
           18, Darker(p_.skin, 0.35), 0.35 * p_.folds + 0.15 * std::max(0.0, s_.smile), 1);
    }
    if (p_.beard > 0) {
      Curve beard;
      for (const cv::Point2d& point : Outline(0.98))
        if (point.y > 2) beard.push_back(point);
      beard.insert(beard.end(), {{-0.6 * p_.face_width, MouthY() - 6}, {0.6 * p_.face_width, MouthY() - 6}});
      Soft(beard, 8, Darker(p_.hair, 0.1), p_.beard, 3);
    }
    if (p_.moustache > 0)
      Soft(Oval({0, MouthY() - p_.upper_lip - 2.2}, p_.mouth_width * 0.9, 2.2, 2.6, 2, 3), 22, p_.hair,
           p_.moustache, 1);
    Dice marks(MakePhilox(static_cast<uint64_t>(1e6 * p_.chin), "freckles"));  // the same in all images
    for (int k = static_cast<int>(40 * p_.freckles); k > 0; --k)
      Soft(Round({marks.Uniform(-22, 22), marks.Uniform(-4, 14)}, 0.6), 16, Darker(p_.skin, 0.4), 0.6, 0);
    for (const Spot& mole : p_.moles)
      Soft(Round({mole.x, mole.y}, mole.radius), 14, Bgr(48, 26, 20), mole.darkness, 0);
  }

  // The lids as two arcs from corner to corner.
  Curve EyeShape(int side, double height) const {
    const double openness = height * s_.eyes;
    Curve shape = Oval({0, 0}, p_.eye_width, openness * 1.1, openness * 0.8, 1.7, 1.8, -side * p_.eye_tilt);
    for (cv::Point2d& point : shape) point += cv::Point2d(side * p_.eye_distance, p_.eye_y);
    return shape;
  }

  void Eye(int side) {
    constexpr double kDepth = 17;
    const cv::Point2d centre(side * p_.eye_distance, p_.eye_y);
    Soft(Oval(centre, p_.eye_width * 1.35, p_.eye_height + 4, p_.eye_height + 2.5), kDepth,
         Darker(p_.skin, 0.35), 0.45, 2.5);
    const Curve shape = EyeShape(side, p_.eye_height);
    const cv::Point2d look = centre + cv::Point2d(s_.gaze_x * 1.6, s_.gaze_y);
    Within(shape, kDepth, [&](cv::Mat& part, cv::Point corner) {
      part.setTo(Bgr(226, 222, 216));
      const cv::Point2d at = Place(look, kDepth) - cv::Point2d(corner);
      const auto disc = [&](double radius, const cv::Scalar& color, cv::Point2d offset = {0, 0}) {
        cv::circle(part, cv::Point((at + offset) * kSub), static_cast<int>(Length(radius) * kSub), color,
                   cv::FILLED, cv::LINE_AA, kShift);
      };
      disc(p_.iris_radius, Darker(p_.iris, 0.45));
      disc(p_.iris_radius * 0.82, p_.iris);
      disc(p_.iris_radius * 0.42, Bgr(8, 8, 8));
      disc(0.6, Bgr(250, 250, 250), {-Length(0.8), -Length(0.8)});
    });
    const size_t half = shape.size() / 2;  // the lower lid comes first
    Line(Curve(shape.begin() + static_cast<int64_t>(half), shape.end()), kDepth, Darker(p_.skin, 0.75), 0.9);
    Line(Curve(shape.begin(), shape.begin() + static_cast<int64_t>(half) + 1), kDepth, Darker(p_.skin, 0.45),
         0.4);
    if (p_.crease < 0.35) return;
    Curve crease(shape.begin() + static_cast<int64_t>(half) + 3, shape.end() - 2);
    for (cv::Point2d& point : crease) point.y -= 1 + 1.6 * p_.crease;
    Line(crease, kDepth, Darker(p_.skin, 0.4), 0.5);
  }

  void Brow(int side) {
    const double y = p_.eye_y - p_.brow_gap - s_.brows, inner = p_.eye_distance - p_.brow_length * 0.9;
    Curve upper, lower;
    for (int k = 0; k <= 12; ++k) {
      const double t = k / 12.0, along = 2 * p_.brow_length * t;
      const double middle = y - p_.brow_arch * std::sin(kPi * t) - p_.brow_tilt * (along - p_.brow_length);
      const double half = 0.5 * p_.brow_thickness * (1.1 - 0.8 * t * t);
      upper.emplace_back(side * (inner + along), middle - half);
      lower.emplace_back(side * (inner + along), middle + half);
    }
    upper.insert(upper.end(), lower.rbegin(), lower.rend());
    Soft(upper, 18, Darker(p_.hair, 0.15), 0.9, 0.4);
  }

  void Nose() {
    const double top = p_.eye_y - 1, tip = p_.nose_tip, wing = p_.nose_width;
    const double shadow = s_.yaw + 0.25 * std::cos(s_.light_angle) > 0 ? -1 : 1;  // on the side turned away
    Soft({{shadow * p_.nose_bridge, top},
          {shadow * (p_.nose_bridge + 2.5), top + 4},
          {shadow * (wing + 1), tip},
          {shadow * wing * 0.4, tip}},
         24, Darker(p_.skin, 0.4), 0.45, 1.2);
    Soft(Oval({0, (top + tip) / 2}, 0.7 * p_.nose_bridge, (tip - top) / 2, (tip - top) / 2), 28,
         Lighter(p_.skin, 0.35), 0.4, 1.2);
    for (int side : {-1, 1})
      Soft(Oval({side * wing * 0.72, tip - 0.8}, 0.36 * wing, 2.4, 2.2), 24, Darker(p_.skin, 0.2), 0.7, 0.6);
    Soft(Oval({0, tip - 2}, 0.62 * wing, 3, 3), 31, Lighter(p_.skin, 0.15), 0.65, 1);
    Soft(Oval({0, tip + 1.6}, wing, 1.2, 1.2), 25, Darker(p_.skin, 0.5), 0.45, 0.8);
    for (int side : {-1, 1})
      Fill(Oval({side * 0.48 * wing, tip + 0.7}, p_.nostril, 0.6 * p_.nostril, 0.6 * p_.nostril), 26,
           Darker(p_.skin, 0.72));
  }

  void Mouth() {
    constexpr double kDepth = 22;
    const double width = p_.mouth_width * (1 + 0.14 * std::max(0.0, s_.smile)), y = MouthY();
    const double curve = p_.mouth_curve + 2.6 * s_.smile, gap = 4.2 * s_.open;
    Curve top, upper, lower, bottom;
    for (int k = -8; k <= 8; ++k) {
      const double t = k / 8.0, x = width * t, rise = curve * (t * t - 0.35), round = 1 - t * t;
      const double bow = p_.bow * (std::exp(-40 * t * t) -
                                   0.5 * std::exp(-12 * (std::abs(t) - 0.28) * (std::abs(t) - 0.28)));
      top.emplace_back(x, y - rise - p_.upper_lip * round + bow);
      upper.emplace_back(x, y - rise + 0.15 * gap * round);
      lower.emplace_back(x, y - rise + gap * round);
      bottom.emplace_back(x, y - rise + (gap + p_.lower_lip) * round);
    }
    const auto between = [](Curve a, const Curve& b) {
      a.insert(a.end(), b.rbegin(), b.rend());
      return a;
    };
    Fill(between(upper, lower), kDepth, Bgr(58, 18, 22));
    if (gap > 1) {
      Curve teeth = upper;
      for (cv::Point2d& point : teeth) point.y += 0.45 * gap * (1 - std::pow(point.x / width, 2));
      Fill(between(upper, teeth), kDepth, Bgr(232, 228, 216));
    }
    Fill(between(top, upper), kDepth, Darker(p_.lips, 0.12));
    Fill(between(lower, bottom), kDepth, p_.lips);
    Soft(Oval({0, y + gap + 0.5 * p_.lower_lip + 0.3 * curve}, 0.45 * width, 0.8, 0.8), kDepth,
         Lighter(p_.lips, 0.4), 0.4, 0.8);
    Line(upper, kDepth, Darker(p_.lips, 0.55), 0.5);
    Soft(Oval({0, y + gap + p_.lower_lip + 2.5}, 0.6 * width, 1.2, 1.2), kDepth, Darker(p_.skin, 0.4), 0.3,
         1.2);
  }

  // Between the outer outline of the hair and the hair line; at the sides down to the temples or below.
  void HairInFront() {
    if (p_.hair_volume < 1.5 && p_.hair_length < 0) return;  // shaven
    const double width = HairWidth(), top = HairTop(), side_end = std::min(p_.hair_length, 34.0);
    Curve hair;
    for (int k = 0; k <= 24; ++k) {
      const double t = kPi * (1 + k / 24.0), c = std::cos(t), s = std::sin(t);
      hair.emplace_back(width * std::copysign(std::pow(std::abs(c), 2 / 2.3), c),
                        -top * std::pow(std::abs(s), 2 / 2.3));
    }
    // Long hair hangs, short hair lies on the head.
    const bool is_long = p_.hair_length > 0;
    const double inner = p_.face_width - 1.5;
    const double end_outer = is_long ? width : HeadWidth(side_end) + 1,
                 end_inner = is_long ? inner + 1 : end_outer - 3;
    hair.emplace_back(end_outer, side_end);
    hair.emplace_back(end_inner, side_end);
    for (int k = 12; k >= -12; --k) {
      const double t = k / 12.0;
      const double dip = p_.hair_temples * std::exp(-18 * (std::abs(t) - 0.62) * (std::abs(t) - 0.62));
      const double parting = 5 * p_.hair_parting * (t - 0.6 * p_.hair_parting);
      const double edge = -top * std::pow(1 - std::pow(std::abs(inner * t) / width, 2.3), 1 / 2.3);
      const double line = p_.hair_line + 18 * std::pow(std::abs(t), 6) + parting - dip;
      hair.emplace_back(inner * t, std::max(line, edge + 1));
    }
    hair.emplace_back(-end_inner, side_end);
    hair.emplace_back(-end_outer, side_end);
    Within(hair, 4, [&](cv::Mat& part, cv::Point corner) {
      part.setTo(p_.hair);
      for (int k = 0; k < 60; ++k) {
        const double x = dice_.Uniform(-1.1, 1.1), bend = dice_.Uniform(0.7, 1.2);
        const cv::Scalar color = dice_.Chance(0.5) ? Lighter(p_.hair, 0.16) : Darker(p_.hair, 0.3);
        const cv::Point2d from =
            Place({width * (0.3 * x + 0.3 * p_.hair_parting), -top}, 4) - cv::Point2d(corner);
        const cv::Point2d to = Place({width * x * bend, side_end * std::abs(x)}, 4) - cv::Point2d(corner);
        cv::line(part, cv::Point(from * kSub), cv::Point(to * kSub), color, 1, cv::LINE_AA, kShift);
      }
    });
  }

  void Glasses() {
    constexpr double kDepth = 24;
    const double y = p_.eye_y + 1, size = s_.glasses_size;
    for (int side : {-1, 1}) {
      const Curve rim = Oval({side * std::max(p_.eye_distance, size + 2), y}, size, 0.75 * size, 0.8 * size,
                             s_.glasses_round, s_.glasses_round);
      Soft(rim, kDepth, s_.dark_glasses ? Bgr(20, 20, 24) : Bgr(225, 232, 238), s_.dark_glasses ? 0.85 : 0.14,
           0);
      Line(rim, kDepth, s_.glasses_color, 1.1, true);
      const double outer = std::max(p_.eye_distance, size + 2) + size;
      Line({{side * outer, y - 1}, {side * (p_.face_width + 1), y - 2}}, kDepth / 2, s_.glasses_color, 1);
    }
    const double inner = std::max(p_.eye_distance, size + 2) - size;
    Line({{-inner, y}, {0, y - 1}, {inner, y}}, kDepth, s_.glasses_color, 1.1);
  }

  // A hand, a cup, a scarf: something before a part of the face.
  void Occluder() {
    const cv::Point2d centre(dice_.Uniform(-40, 40), dice_.Uniform(-10, 50));
    const cv::Scalar color = Bgr(dice_.Uniform(20, 230), dice_.Uniform(20, 230), dice_.Uniform(20, 230));
    Fill(Oval(centre, dice_.Uniform(8, 18), dice_.Uniform(8, 18), dice_.Uniform(8, 22), 3, 3), 36, color);
  }

  // Light, camera and sensor.
  cv::Mat Photograph() {
    cv::Mat image;
    cv::resize(canvas_, image, cv::Size(size_, size_), 0, 0, cv::INTER_AREA);
    if (s_.blur > 0) cv::GaussianBlur(image, image, cv::Size(0, 0), s_.blur * size_ / 112.0);
    cv::RNG noise(s_.details);
    cv::Mat grain(image.size(), CV_16SC3);
    noise.fill(grain, cv::RNG::NORMAL, 0, s_.noise);
    const double across = std::cos(s_.light_angle) * s_.light / size_,
                 down = std::sin(s_.light_angle) * s_.light / size_;
    for (int y = 0; y < size_; ++y) {
      uint8_t* pixel = image.ptr(y);
      const int16_t* extra = grain.ptr<int16_t>(y);
      for (int x = 0; x < size_; ++x) {
        const float light =
            static_cast<float>(s_.gain * (1 + 2 * (across * (x - size_ / 2) + down * (y - size_ / 2))));
        for (int c = 0; c < 3; ++c) {
          const float value = light * static_cast<float>(s_.tint[static_cast<size_t>(c)]) * pixel[3 * x + c];
          pixel[3 * x + c] = cv::saturate_cast<uint8_t>((value - 120) * static_cast<float>(s_.contrast) +
                                                        120 + extra[3 * x + c]);
        }
      }
    }
    return image;
  }

  const Person& p_;
  const Shot& s_;
  int size_;
  Dice dice_;
  cv::Mat canvas_;
};

}  // namespace crema
