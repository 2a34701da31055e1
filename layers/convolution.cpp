// Convolution: y = w * x + b, two-dimensional cross-correlation, in groups, with stride, padding and
// dilation.
#include "net/convolution_layer.hpp"

namespace crema {
namespace {

struct Convolution final : ConvolutionLayer {
  using ConvolutionLayer::ConvolutionLayer;
};

CREMA_REGISTER_LAYER(Convolution, "convolution_param");

}  // namespace
}  // namespace crema
