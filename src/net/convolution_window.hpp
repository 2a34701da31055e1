// Floor 4. What convolution_param says of the window that goes over an image. Called by the layers that have
// one: Convolution, Deconvolution, Im2col.
#pragma once

#include "crema/layer.hpp"

namespace crema {

// Kernel, stride, padding and dilation, in each of Caffe's spellings; the rest is left as it is by default.
// Throws Error, naming the layer, unless they are sizes of a window and x is an image N x C x H x W.
ConvolutionSpec ConvolutionWindow(const Layer& layer, const Blob& x);

}  // namespace crema
