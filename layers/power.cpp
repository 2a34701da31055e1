// Power: y = (shift + scale * x) ^ power.
#include "crema/parallel.hpp"
#include "net/elementwise.hpp"

namespace crema {
namespace {

template <class T>
struct PowerCurve {
  T power, scale, shift;
  static PowerCurve Of(const LayerParameter& spec) {
    const PowerParameter& options = spec.power_param();
    return {static_cast<T>(options.power()), static_cast<T>(options.scale()),
            static_cast<T>(options.shift())};
  }
  CREMA_HD T Base(T x) const { return scale == 0 ? shift : shift + scale * x; }
  CREMA_HD T Value(T x) const {
    const T base = Base(x);
    return power == 1 ? base : power == 2 ? base * base : pow(base, power);
  }
  CREMA_HD T Slope(T x) const {
    if (power == 0 || scale == 0) return 0;
    if (power == 1) return scale;
    if (power == 2) return 2 * scale * Base(x);
    return power * scale * pow(Base(x), power - 1);
  }
};

struct Power final : Elementwise<PowerCurve, Reads::kBottom> {
  using Elementwise::Elementwise;
  Reads BackwardReads() const override {
    const PowerParameter& options = spec().power_param();
    const bool straight = options.power() == 0 || options.power() == 1 || options.scale() == 0;
    return straight ? Reads::kNothing : Reads::kBottom;
  }
};

CREMA_REGISTER_LAYER(Power, "power_param");

}  // namespace
}  // namespace crema
