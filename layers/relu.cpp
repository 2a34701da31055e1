// ReLU: y = max(x, 0) + negative_slope * min(x, 0).
#include "crema/parallel.hpp"
#include "net/elementwise.hpp"

namespace crema {
namespace {

template <class T>
struct ReLUCurve {
  T slope;
  static ReLUCurve Of(const LayerParameter& spec) {
    return {static_cast<T>(spec.relu_param().negative_slope())};
  }
  CREMA_HD T Value(T x) const { return x > 0 ? x : slope * x; }
  CREMA_HD T Slope(T seen) const { return seen > 0 ? T(1) : slope; }
};

struct ReLU final : Elementwise<ReLUCurve, Reads::kTop> {
  using Elementwise::Elementwise;
  // The top has the sign of the bottom, unless a negative slope turns it round.
  Reads BackwardReads() const override {
    return spec().relu_param().negative_slope() >= 0 ? Reads::kTop : Reads::kBottom;
  }
};

CREMA_REGISTER_LAYER(ReLU, "relu_param");

}  // namespace
}  // namespace crema
