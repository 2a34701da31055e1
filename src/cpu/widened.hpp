// Floor 1, inside src/cpu. What has 16 bits where the processor does not multiply it: computed in f32 from
// widened values.
#pragma once

#include <memory>

#include "crema/device.hpp"

namespace crema {

// Device::Gemm for a type of 16 bits by the device's product of f32.
void WidenedGemm(Device& device, DType dtype, const GemmShape& shape, double alpha, const void* a,
                 const void* b, double beta, void* c);

// A convolution on 16 bits that is computed in f32; `block` is that of the f32 kernels.
std::unique_ptr<Convolution> NewWidenedConvolution(const ConvolutionSpec& spec, int64_t block);

}  // namespace crema
