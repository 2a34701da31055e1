// AbsVal: y = |x|; its slope at 0 is 0.
#include "crema/parallel.hpp"
#include "net/elementwise.hpp"

namespace crema {
namespace {

template <class T>
struct AbsValCurve {
  static AbsValCurve Of(const LayerParameter&) { return {}; }
  CREMA_HD T Value(T x) const { return x < 0 ? -x : x; }
  CREMA_HD T Slope(T x) const { return static_cast<T>((x > 0) - (x < 0)); }
};

struct AbsVal final : Elementwise<AbsValCurve, Reads::kBottom> {
  using Elementwise::Elementwise;
};

CREMA_REGISTER_LAYER(AbsVal);

}  // namespace
}  // namespace crema
