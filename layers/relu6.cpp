// ReLU6: y = min(max(x, 0), 6) (MobileNetV2, Sandler et al., arXiv 1801.04381).
#include "crema/parallel.hpp"
#include "net/elementwise.hpp"

namespace crema {
namespace {

template <class T>
struct ReLU6Curve {
  static ReLU6Curve Of(const LayerParameter&) { return {}; }
  CREMA_HD T Value(T x) const { return x > 6 ? T(6) : x > 0 ? x : T(0); }
  CREMA_HD T Slope(T y) const { return y > 0 && y < 6 ? T(1) : T(0); }
};

struct ReLU6 final : Elementwise<ReLU6Curve, Reads::kTop> {
  using Elementwise::Elementwise;
};

CREMA_REGISTER_LAYER(ReLU6);

}  // namespace
}  // namespace crema
