// Floor 4. Samples brought to length 1 over all their numbers: what L2Norm and NormL2 have in common.
#pragma once

#include "crema/layer.hpp"

namespace crema {

// y = x / sqrt(|x|^2 + eps), sample by sample.
class UnitSampleLayer : public Layer {
 public:
  using Layer::Layer;
  Reads BackwardReads() const override { return Reads::kBottom; }
  void Reshape(const Context& ctx, const Blobs& bottom, const Blobs& top) override;
  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override;
  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override;

 protected:
  virtual double eps() const = 0;

 private:
  int64_t length_ = 0;  // numbers of a sample
  Tensor inverse_;      // 1 / length of each sample, of the last Forward
};

}  // namespace crema
