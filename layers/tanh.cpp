// TanH: y = tanh(x).
#include "crema/parallel.hpp"
#include "net/elementwise.hpp"

namespace crema {
namespace {

template <class T>
struct TanHCurve {
  static TanHCurve Of(const LayerParameter&) { return {}; }
  CREMA_HD T Value(T x) const { return tanh(x); }
  CREMA_HD T Slope(T y) const { return 1 - y * y; }
};

struct TanH final : Elementwise<TanHCurve, Reads::kTop> {
  using Elementwise::Elementwise;
};

CREMA_REGISTER_LAYER(TanH, "tanh_param");

}  // namespace
}  // namespace crema
