// DepthwiseConvolution: a Convolution with a group for each channel (MobileNet, Howard et al., arXiv
// 1704.04861), by the name that the MobileNets of Caffe give it.
#include "net/convolution_layer.hpp"

namespace crema {
namespace {

struct DepthwiseConvolution final : DepthwiseLayer {
  using DepthwiseLayer::DepthwiseLayer;
};

CREMA_REGISTER_LAYER(DepthwiseConvolution, "convolution_param");

}  // namespace
}  // namespace crema
