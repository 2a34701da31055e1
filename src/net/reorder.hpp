// Floor 4, used by net.cpp alone. The layer that the net puts where one layer's layout does not suit the
// next.
#pragma once

#include "crema/layer.hpp"

namespace crema {

// Top = bottom with its channels in blocks of `block`.
class Reorder final : public Layer {
 public:
  Reorder(const LayerParameter& spec, int64_t block) : Layer(spec), block_(block) {}
  void Reshape(const Context& ctx, const Blobs& bottom, const Blobs& top) override;
  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override;
  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override;

 private:
  int64_t block_;
};

// Values of a tensor in Caffe's order, as floats, on the host.
std::vector<float> ToCaffeOrder(const Tensor& tensor);

}  // namespace crema
