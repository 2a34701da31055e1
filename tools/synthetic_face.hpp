// Floor 7. What makes a synthetic person (the same in all images) and what changes from image to image, both
// drawn from keyed random numbers. Lengths are in pixels of a face of 112x112, from a point between the eyes'
// lower rims, x to the right and y down. Included by tools only.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include <opencv2/core.hpp>

#include "crema/philox.hpp"

namespace crema {

// Random numbers one after another.
class Dice {
 public:
  explicit Dice(Philox stream) : stream_(stream) {}
  double Uniform(double low, double high) { return low + (high - low) * stream_.Uniform(next_++); }
  // Normal around the middle, nearly all of it between the ends and none outside.
  double Around(double low, double high) {
    const double x = (low + high) / 2 + (high - low) / 4.5 * stream_.Normal(next_++);
    return std::clamp(x, low, high);
  }
  bool Chance(double probability) { return Uniform(0, 1) < probability; }
  int Below(int bound) { return static_cast<int>(Uniform(0, bound)); }

 private:
  Philox stream_;
  uint64_t next_ = 0;
};

inline cv::Scalar Mix(const cv::Scalar& a, const cv::Scalar& b, double share) {
  return a * (1 - share) + b * share;
}
inline cv::Scalar Bgr(double r, double g, double b) {
  return {b, g, r};
}

struct Spot {
  double x, y, radius, darkness;
};

// A person.
struct Person {
  cv::Scalar skin, hair, iris, lips;
  double face_width, chin, jaw, forehead, cheek;  // outline
  double eye_distance, eye_y, eye_width, eye_height, eye_tilt, iris_radius, crease;
  double brow_gap, brow_length, brow_thickness, brow_tilt, brow_arch;
  double nose_tip, nose_width, nose_bridge, nostril;
  double mouth_gap, mouth_width, upper_lip, lower_lip, bow, mouth_curve;
  double hair_volume, hair_line, hair_parting, hair_length, hair_temples;
  double ear_size, ear_y;
  double beard, moustache, folds, freckles;
  std::vector<Spot> moles;
};

inline cv::Scalar SkinColor(Dice& dice) {
  const double dark = std::pow(dice.Uniform(0, 1), 1.3), warm = dice.Uniform(-1, 1);
  const cv::Scalar color = dark < 0.5 ? Mix(Bgr(242, 206, 184), Bgr(196, 146, 112), 2 * dark)
                                      : Mix(Bgr(196, 146, 112), Bgr(104, 68, 50), 2 * dark - 1);
  return color + Bgr(5 * warm, 0, -8 * warm);
}

inline cv::Scalar HairColor(Dice& dice) {
  const double light = std::pow(dice.Uniform(0, 1), 1.6), red = dice.Uniform(0, 1), gray = dice.Uniform(0, 1);
  cv::Scalar color = light < 0.5 ? Mix(Bgr(24, 19, 18), Bgr(92, 60, 38), 2 * light)
                                 : Mix(Bgr(92, 60, 38), Bgr(205, 170, 105), 2 * light - 1);
  if (red > 0.85) color = Mix(color, Bgr(150, 66, 28), 0.6);
  if (gray > 0.85) color = Mix(color, Bgr(176, 174, 172), (gray - 0.85) / 0.15 * 0.9);
  return color;
}

inline cv::Scalar IrisColor(Dice& dice) {
  const double kind = dice.Uniform(0, 1);
  if (kind < 0.55) return Mix(Bgr(40, 24, 16), Bgr(112, 70, 36), dice.Uniform(0, 1));
  if (kind < 0.75) return Mix(Bgr(92, 110, 62), Bgr(120, 130, 90), dice.Uniform(0, 1));
  return Mix(Bgr(70, 110, 160), Bgr(140, 165, 185), dice.Uniform(0, 1));
}

inline Person MakePerson(uint64_t seed, int64_t id) {
  Dice dice(MakePhilox(seed, "person", id));
  Person p;
  p.skin = SkinColor(dice);
  p.hair = HairColor(dice);
  p.iris = IrisColor(dice);
  p.lips = Mix(p.skin, Bgr(178, 62, 70), dice.Uniform(0.25, 0.75));
  p.face_width = dice.Around(28.5, 38.5);
  p.chin = dice.Around(37, 51);
  p.jaw = dice.Around(1.55, 3.1);
  p.forehead = dice.Around(38, 48);
  p.cheek = dice.Around(0, 1);
  p.eye_distance = dice.Around(12, 20);
  p.eye_y = dice.Around(-12, -5);
  p.eye_width = dice.Around(5.2, 9);
  p.eye_height = dice.Around(1.8, 4.6);
  p.eye_tilt = dice.Around(-0.3, 0.3);
  p.iris_radius = dice.Around(2.1, 3.3);
  p.crease = dice.Uniform(0, 1);
  p.brow_gap = dice.Around(4.5, 11);
  p.brow_length = dice.Around(6, 11);
  p.brow_thickness = dice.Around(0.8, 3.6);
  p.brow_tilt = dice.Around(-0.4, 0.4);
  p.brow_arch = dice.Around(-0.5, 3.5);
  p.nose_tip = dice.Around(5, 16);
  p.nose_width = dice.Around(3.6, 9);
  p.nose_bridge = dice.Around(1.2, 4);
  p.nostril = dice.Around(0.7, 2);
  p.mouth_gap = dice.Around(7, 14.5);
  p.mouth_width = dice.Around(7.5, 16.5);
  p.upper_lip = dice.Around(0.8, 4);
  p.lower_lip = dice.Around(1.2, 5.2);
  p.bow = dice.Around(0, 1.8);
  p.mouth_curve = dice.Around(-2.6, 2.6);
  p.hair_volume = dice.Around(0.5, 11);
  p.hair_line = dice.Around(-42, -25);
  p.hair_parting = dice.Uniform(-1, 1);
  p.hair_length = dice.Chance(0.5) ? dice.Uniform(-22, -6) : dice.Uniform(8, 60);
  p.hair_temples = dice.Around(-4, 9);
  p.ear_size = dice.Around(4.5, 9.5);
  p.ear_y = dice.Around(-7, 4);
  p.beard = dice.Chance(0.3) ? dice.Uniform(0.15, 0.8) : 0;
  p.moustache = dice.Chance(0.22) ? dice.Uniform(0.2, 0.9) : 0;
  p.folds = dice.Uniform(0, 1);
  p.freckles = dice.Chance(0.15) ? dice.Uniform(0.3, 1) : 0;
  for (int count = dice.Below(3); count > 0; --count)
    p.moles.push_back(
        {dice.Uniform(-24, 24), dice.Uniform(-30, 36), dice.Uniform(0.6, 1.7), dice.Uniform(0.4, 0.9)});
  return p;
}

// One image of a person.
struct Shot {
  double roll, scale, shift_x, shift_y, yaw, pitch;  // pose
  double smile, open, eyes, brows, gaze_x, gaze_y;   // expression
  double light_angle, light, gain, contrast;
  std::array<double, 3> tint;
  double blur, noise, hair_jitter;
  int quality;  // of JPEG
  bool glasses, dark_glasses, occluded;
  double glasses_size, glasses_round;
  cv::Scalar glasses_color, background, background_2, clothes;
  uint64_t details;  // key of what is drawn at random
};

inline Shot MakeShot(uint64_t seed, int64_t image) {
  Dice dice(MakePhilox(seed, "shot", image));
  const auto color = [&](double low, double high) {
    return Bgr(dice.Uniform(low, high), dice.Uniform(low, high), dice.Uniform(low, high));
  };
  const auto muted = [&] { return Mix(color(20, 235), Bgr(1, 1, 1) * dice.Uniform(30, 225), 0.65); };
  Shot s;
  s.roll = dice.Around(-0.22, 0.22);
  s.scale = dice.Around(0.88, 1.12);
  s.shift_x = dice.Around(-5, 5);
  s.shift_y = dice.Around(-5, 5);
  s.yaw = dice.Around(-0.55, 0.55);
  s.pitch = dice.Around(-0.3, 0.3);
  s.smile = dice.Around(-0.7, 1.2);
  s.open = dice.Chance(0.35) ? dice.Uniform(0, 1) : 0;
  s.eyes = dice.Chance(0.04) ? 0.1 : dice.Around(0.65, 1.2);
  s.brows = dice.Around(-1.8, 1.8);
  s.gaze_x = dice.Around(-1, 1);
  s.gaze_y = dice.Around(-0.5, 0.5);
  s.light_angle = dice.Uniform(0, 6.2832);
  s.light = dice.Uniform(0, 0.5);
  s.gain = dice.Around(0.62, 1.3);
  s.contrast = dice.Around(0.7, 1.25);
  for (double& channel : s.tint) channel = dice.Around(0.86, 1.14);
  s.blur = dice.Chance(0.4) ? dice.Uniform(0.3, 1.5) : 0;
  s.noise = dice.Uniform(1, 9);
  s.hair_jitter = dice.Around(-2, 2);
  s.quality = 70 + dice.Below(26);
  s.glasses = dice.Chance(0.15);
  s.dark_glasses = dice.Chance(0.2);
  s.occluded = dice.Chance(0.06);
  s.glasses_size = dice.Uniform(8.5, 12);
  s.glasses_round = dice.Uniform(2, 5);
  s.glasses_color = color(10, 90);
  s.background = muted();
  s.background_2 = muted();
  s.clothes = color(15, 230);
  s.details = MixBits(seed, static_cast<uint64_t>(image));
  return s;
}

}  // namespace crema
