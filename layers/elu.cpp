// ELU: y = x where x > 0, else alpha * (exp(x) - 1) (Clevert et al., arXiv 1511.07289).
#include "crema/parallel.hpp"
#include "net/elementwise.hpp"

namespace crema {
namespace {

template <class T>
struct ELUCurve {
  T alpha;
  static ELUCurve Of(const LayerParameter& spec) { return {static_cast<T>(spec.elu_param().alpha())}; }
  CREMA_HD T Value(T x) const { return x > 0 ? x : alpha * expm1(x); }
  CREMA_HD T Slope(T seen) const {
    if (seen > 0) return 1;
    return alpha >= 0 ? seen + alpha : alpha * exp(seen);
  }
};

struct ELU final : Elementwise<ELUCurve, Reads::kTop> {
  using Elementwise::Elementwise;
  // The top has the sign of the bottom, unless a negative alpha turns it round.
  Reads BackwardReads() const override {
    return spec().elu_param().alpha() >= 0 ? Reads::kTop : Reads::kBottom;
  }
};

CREMA_REGISTER_LAYER(ELU, "elu_param");

}  // namespace
}  // namespace crema
