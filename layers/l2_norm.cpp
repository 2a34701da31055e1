// L2Norm: y = x / |x|, the L2 norm over all numbers of a sample; 1e-10 is added to the sum of squares.
#include "net/unit_samples.hpp"

namespace crema {
namespace {

struct L2Norm final : UnitSampleLayer {
  using UnitSampleLayer::UnitSampleLayer;

 protected:
  double eps() const override { return 1e-10; }
};

CREMA_REGISTER_LAYER(L2Norm);

}  // namespace
}  // namespace crema
