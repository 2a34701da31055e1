// Exp: y = base ^ (scale * x + shift).
#include <cmath>

#include "crema/parallel.hpp"
#include "net/elementwise.hpp"

namespace crema {
namespace {

template <class T>
struct ExpCurve {
  T outer, inner;  // y = outer * exp(inner * x)
  static ExpCurve Of(const LayerParameter& spec) {
    const ExpParameter& options = spec.exp_param();
    const double log_base = options.base() == -1 ? 1 : std::log(static_cast<double>(options.base()));
    return {static_cast<T>(std::exp(log_base * options.shift())), static_cast<T>(log_base * options.scale())};
  }
  CREMA_HD T Value(T x) const { return outer * exp(inner * x); }
  CREMA_HD T Slope(T y) const { return inner * y; }
};

struct Exp final : Elementwise<ExpCurve, Reads::kTop> {
  using Elementwise::Elementwise;
  void Reshape(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    const float base = spec().exp_param().base();
    Check(base > 0 || base == -1, "base is ", base, "; expected a positive number, or -1 for e");
    Elementwise::Reshape(ctx, bottom, top);
  }
};

CREMA_REGISTER_LAYER(Exp, "exp_param");

}  // namespace
}  // namespace crema
