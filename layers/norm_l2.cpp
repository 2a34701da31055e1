// NormL2: y = x / |x|, the L2 norm over all numbers of a sample; 1e-7 is added to the sum of squares
// (xialuxi/arcface-caffe).
#include "net/unit_samples.hpp"

namespace crema {
namespace {

struct NormL2 final : UnitSampleLayer {
  using UnitSampleLayer::UnitSampleLayer;

 protected:
  double eps() const override { return 1e-7; }
};

CREMA_REGISTER_LAYER(NormL2);

}  // namespace
}  // namespace crema
