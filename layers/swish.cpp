// Swish: y = x * sigmoid(beta * x) (Ramachandran et al., arXiv 1710.05941).
#include "crema/parallel.hpp"
#include "net/elementwise.hpp"

namespace crema {
namespace {

template <class T>
struct SwishCurve {
  T beta;
  static SwishCurve Of(const LayerParameter& spec) { return {static_cast<T>(spec.swish_param().beta())}; }
  CREMA_HD T Sigmoid(T x) const { return T(0.5) * tanh(T(0.5) * beta * x) + T(0.5); }
  CREMA_HD T Value(T x) const { return x * Sigmoid(x); }
  CREMA_HD T Slope(T x) const {
    const T s = Sigmoid(x);
    return s * (1 + beta * x * (1 - s));
  }
};

struct Swish final : Elementwise<SwishCurve, Reads::kBottom> {
  using Elementwise::Elementwise;
};

CREMA_REGISTER_LAYER(Swish, "swish_param");

}  // namespace
}  // namespace crema
