// HardSwish: y = x min(max(x / 6 + 1 / 2, 0), 1) (MobileNetV3, Howard et al., arXiv 1905.02244).
#include "crema/parallel.hpp"
#include "net/elementwise.hpp"

namespace crema {
namespace {

template <class T>
struct HardSwishCurve {
  static HardSwishCurve Of(const LayerParameter&) { return {}; }
  CREMA_HD T Value(T x) const { return x <= -3 ? T(0) : x >= 3 ? x : x * (x / 6 + T(0.5)); }
  CREMA_HD T Slope(T x) const { return x <= -3 ? T(0) : x >= 3 ? T(1) : x / 3 + T(0.5); }
};

struct HardSwish final : Elementwise<HardSwishCurve, Reads::kBottom> {
  using Elementwise::Elementwise;
};

CREMA_REGISTER_LAYER(HardSwish);

}  // namespace
}  // namespace crema
