// ConvolutionDepthwise: a Convolution with a group for each channel, by the name that the ShuffleNets of
// Caffe give it; their files leave `group` out.
#include "net/convolution_layer.hpp"

namespace crema {
namespace {

struct ConvolutionDepthwise final : DepthwiseLayer {
  using DepthwiseLayer::DepthwiseLayer;
};

CREMA_REGISTER_LAYER(ConvolutionDepthwise, "convolution_param");

}  // namespace
}  // namespace crema
