// Floor 4, used by net.cpp alone. The layer that the net puts where one layer's layout or type of elements
// does not suit the next.
#pragma once

#include "crema/layer.hpp"

namespace crema {

// Top = bottom as elements of `dtype` with its channels in blocks of `block`. Where one side alone has 16
// bits, ctx.grad_scale goes into the gradient or out of it.
class Reorder final : public Layer {
 public:
  Reorder(const LayerParameter& spec, DType dtype, int64_t block)
      : Layer(spec), dtype_(dtype), block_(block) {}
  void Reshape(const Context& ctx, const Blobs& bottom, const Blobs& top) override;
  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override;
  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override;

 private:
  DType dtype_;
  int64_t block_;
};

// Values of a tensor in Caffe's order, as floats, on the host.
std::vector<float> ToCaffeOrder(const Tensor& tensor);

}  // namespace crema
