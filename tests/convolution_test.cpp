// The device's convolution in float32 and in 16 bits against plain loops in float64: kernels, strides,
// dilation, groups of any width, and the layouts that a net gives it.
#include <gtest/gtest.h>

#include <cmath>
#include <tuple>

#include "crema/device.hpp"
#include "crema/float16.hpp"
#include "crema/philox.hpp"
#include "test_place.hpp"

namespace crema {
namespace {

Channel OrderOf(const Shape& shape, int64_t block) {
  return {shape[0], shape[1] / block, shape[2] * shape[3], block};
}

// The same random numbers in any type and layout, keyed by their place in Caffe's order.
Tensor Random(Device& device, DType dtype, const Shape& shape, int64_t block, const char* what) {
  Tensor tensor(device, dtype, shape, block);
  const Philox random = MakePhilox(1, what);
  const Channel order = OrderOf(shape, block);
  ForBlob(dtype, [&]<class, class T>() {
    std::vector<T> values(static_cast<size_t>(tensor.count()));
    for (int64_t n = 0, k = 0; n < order.outer; ++n)
      for (int64_t c = 0; c < order.channels(); ++c)
        for (int64_t s = 0; s < order.inner; ++s, ++k)
          values[static_cast<size_t>(order.at(n, c, s))] =
              static_cast<T>(random.Normal(static_cast<uint64_t>(k)));
    tensor.FromHost(values);
  });
  return tensor;
}

std::vector<double> InCaffeOrder(const Tensor& tensor) {
  const Channel order = OrderOf(tensor.shape(), tensor.block());
  std::vector<double> out;
  ForBlob(tensor.dtype(), [&]<class, class T>() {
    const std::vector<T> values = tensor.ToHost<T>();
    for (int64_t n = 0; n < order.outer; ++n)
      for (int64_t c = 0; c < order.channels(); ++c)
        for (int64_t s = 0; s < order.inner; ++s)
          out.push_back(static_cast<double>(values[static_cast<size_t>(order.at(n, c, s))]));
  });
  return out;
}

// y, dx, dw and dbias of one convolution. dw and dbias are added to what is there.
std::vector<std::vector<double>> Results(const ConvolutionSpec& spec) {
  const std::unique_ptr<Device> device = NewTestDevice();
  Scratch scratch(*device);
  const std::unique_ptr<Convolution> convolution = device->NewConvolution(spec);
  const bool narrow = Has16Bits(spec.dtype);
  const DType grad_type = narrow ? convolution->WeightGradType() : spec.dtype;
  const int64_t w_block = narrow ? convolution->WeightBlock() : 1;
  const Shape x_shape = {spec.batch, spec.channels, spec.height, spec.width},
              y_shape = {spec.batch, spec.outputs, spec.out_height(), spec.out_width()},
              w_shape = {spec.outputs, spec.channels / spec.groups, spec.kernel_h, spec.kernel_w},
              b_shape = {1, spec.outputs, 1, 1};
  const Tensor x = Random(*device, spec.dtype, x_shape, spec.x_block, "x"),
               w = Random(*device, spec.dtype, w_shape, w_block, "w"),
               bias = Random(*device, spec.dtype, b_shape, 1, "bias"),
               dy = Random(*device, spec.dtype, y_shape, spec.y_block, "dy");
  Tensor y(*device, spec.dtype, y_shape, spec.y_block), dx(*device, spec.dtype, x_shape, spec.x_block);
  Tensor dw = Random(*device, grad_type, w_shape, w_block, "dw"),
         dbias = Random(*device, spec.dtype, b_shape, 1, "dbias");
  convolution->Forward(scratch, x, w, spec.bias ? &bias : nullptr, &y);
  convolution->BackwardData(scratch, dy, w, &dx);
  convolution->BackwardWeights(scratch, x, dy, &dw, spec.bias ? &dbias : nullptr);
  return {InCaffeOrder(y), InCaffeOrder(dx), InCaffeOrder(dw), InCaffeOrder(dbias)};
}

// To so much of the norm of what plain loops give in double.
void Compare(ConvolutionSpec spec, double tolerance) {
  const std::vector<std::vector<double>> found = Results(spec);
  const bool narrow = Has16Bits(spec.dtype);
  spec.x_block = spec.y_block = 1, spec.dtype = DType::kF64;
  const std::vector<std::vector<double>> wanted = Results(spec);
  const char* const kWhat[] = {"y", "dx", "dw", "dbias"};
  for (size_t k = 0; k < (narrow ? 3 : wanted.size()); ++k) {
    double difference = 0, norm = 0;
    ASSERT_EQ(found[k].size(), wanted[k].size()) << kWhat[k];
    for (size_t i = 0; i < wanted[k].size(); ++i) {
      difference += std::pow(found[k][i] - wanted[k][i], 2);
      norm += std::pow(wanted[k][i], 2);
    }
    EXPECT_LE(std::sqrt(difference), tolerance * std::sqrt(norm)) << kWhat[k];
  }
}

struct Case {
  int64_t channels, outputs, groups, kernel, stride = 1, pad = 0, dilation = 1;
};

TEST(Convolution, IsWhatPlainLoopsGive) {
  const std::unique_ptr<Device> device = NewTestDevice();
  for (const Case& c : std::vector<Case>{{3, 32, 1, 3, 2, 1},
                                         {32, 64, 1, 1},
                                         {64, 32, 1, 3, 1, 1},
                                         {16, 16, 1, 3, 1, 2, 2},
                                         {1, 20, 1, 5},
                                         {10, 16, 1, 3},
                                         {16, 5, 1, 1},
                                         {32, 32, 32, 3, 2, 1},
                                         {48, 48, 48, 7},
                                         {64, 64, 32, 3, 1, 1},
                                         {32, 64, 32, 3, 1, 1},
                                         {64, 32, 8, 3, 2, 1},
                                         {48, 96, 4, 1},
                                         {12, 6, 3, 3, 1, 1},
                                         {96, 64, 2, 3},
                                         {16, 32, 1, 3, 4, 1},
                                         {16, 32, 1, 11, 4, 5}}) {
    for (bool preferred : {true, false}) {
      // Of 16 bits there is no bias.
      for (const auto& [dtype, bias, tolerance] : {std::tuple{DType::kF32, true, 2e-6},
                                                   {DType::kF32, false, 2e-6},
                                                   {DType::kBF16, false, 6e-3},
                                                   {DType::kF16, false, 8e-4}}) {
        if (Has16Bits(dtype) && TestsRunOnGpu() && !preferred) continue;  // no net for a GPU has planes
        ConvolutionSpec spec;
        spec.dtype = dtype;
        spec.batch = 3, spec.channels = c.channels, spec.height = 9, spec.width = 8, spec.outputs = c.outputs;
        spec.groups = c.groups, spec.kernel_h = spec.kernel_w = c.kernel,
        spec.stride_h = spec.stride_w = c.stride;
        spec.pad_h = spec.pad_w = c.pad, spec.dilation_h = spec.dilation_w = c.dilation, spec.bias = bias;
        spec.x_block = preferred ? device->ChannelBlock(spec.dtype, c.channels) : 1;
        spec.y_block = preferred ? device->ChannelBlock(spec.dtype, c.outputs) : 1;
        SCOPED_TRACE(Concat(c.channels, " to ", c.outputs, " in ", c.groups, " groups, kernel ", c.kernel,
                            ", ", preferred ? "the device's layout" : "planes", bias ? ", bias, " : ", ",
                            NameOf(dtype)));
        Compare(spec, tolerance);
      }
    }
  }
}

}  // namespace
}  // namespace crema
