// Threshold: y = 1 where x > threshold, else 0; it has no gradient.
#include "crema/parallel.hpp"
#include "net/elementwise.hpp"

namespace crema {
namespace {

template <class T>
struct ThresholdCurve {
  T threshold;
  static ThresholdCurve Of(const LayerParameter& spec) {
    return {static_cast<T>(spec.threshold_param().threshold())};
  }
  CREMA_HD T Value(T x) const { return x > threshold ? T(1) : T(0); }
  CREMA_HD T Slope(T) const { return 0; }
};

struct Threshold final : Elementwise<ThresholdCurve, Reads::kNothing> {
  using Elementwise::Elementwise;
  bool BottomHasGradient(int) const override { return false; }
};

CREMA_REGISTER_LAYER(Threshold, "threshold_param");

}  // namespace
}  // namespace crema
