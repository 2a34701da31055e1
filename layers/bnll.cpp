// BNLL: y = log(1 + exp(x)), the binomial normal log likelihood.
#include "crema/parallel.hpp"
#include "net/elementwise.hpp"

namespace crema {
namespace {

template <class T>
struct BNLLCurve {
  static BNLLCurve Of(const LayerParameter&) { return {}; }
  CREMA_HD T Value(T x) const { return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)); }
  CREMA_HD T Slope(T y) const { return -expm1(-y); }
};

struct BNLL final : Elementwise<BNLLCurve, Reads::kTop> {
  using Elementwise::Elementwise;
};

CREMA_REGISTER_LAYER(BNLL);

}  // namespace
}  // namespace crema
