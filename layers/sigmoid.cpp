// Sigmoid: y = 1 / (1 + exp(-x)).
#include "crema/parallel.hpp"
#include "net/elementwise.hpp"

namespace crema {
namespace {

template <class T>
struct SigmoidCurve {
  static SigmoidCurve Of(const LayerParameter&) { return {}; }
  CREMA_HD T Value(T x) const { return T(0.5) * tanh(T(0.5) * x) + T(0.5); }
  CREMA_HD T Slope(T y) const { return y * (1 - y); }
};

struct Sigmoid final : Elementwise<SigmoidCurve, Reads::kTop> {
  using Elementwise::Elementwise;
};

CREMA_REGISTER_LAYER(Sigmoid, "sigmoid_param");

}  // namespace
}  // namespace crema
