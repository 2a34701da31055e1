// Log: y = log(scale * x + shift) to the given base.
#include <cmath>

#include "crema/parallel.hpp"
#include "net/elementwise.hpp"

namespace crema {
namespace {

template <class T>
struct LogCurve {
  T scale, shift, factor;  // factor: 1 / log(base)
  static LogCurve Of(const LayerParameter& spec) {
    const LogParameter& options = spec.log_param();
    const double log_base = options.base() == -1 ? 1 : std::log(static_cast<double>(options.base()));
    return {static_cast<T>(options.scale()), static_cast<T>(options.shift()), static_cast<T>(1 / log_base)};
  }
  CREMA_HD T Value(T x) const { return factor * log(scale * x + shift); }
  CREMA_HD T Slope(T x) const { return factor * scale / (scale * x + shift); }
};

struct Log final : Elementwise<LogCurve, Reads::kBottom> {
  using Elementwise::Elementwise;
  void Reshape(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    const float base = spec().log_param().base();
    Check((base > 0 && base != 1) || base == -1, "base is ", base,
          "; expected a positive number other than 1, or -1 for e");
    Elementwise::Reshape(ctx, bottom, top);
  }
};

CREMA_REGISTER_LAYER(Log, "log_param");

}  // namespace
}  // namespace crema
