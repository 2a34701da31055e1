// Floor 4. The convolution of images that Convolution and the layers of its older and other names are, and
// that Deconvolution turns round.
#pragma once

#include "crema/layer.hpp"

namespace crema {

// Bottom N x C x H x W; weights [num_output, C / groups, kernel h, kernel w] and, with bias_term,
// [num_output]; all sizes by convolution_param. On bottoms of 16 bits it works with a copy of the weights in
// their type; the bias and all gradients of weights stay f32.
class ConvolutionLayer : public Layer {
 public:
  using Layer::Layer;
  Bits16 bits16() const override { return Bits16::kWants; }
  Layouts layouts() const override { return Layouts::kDevice; }
  Reads BackwardReads() const override { return Reads::kBottom; }
  int64_t MultiplyAdds(const Blobs& bottom, const Blobs& top) const override;
  Workspace WorkspaceFor(const Context& ctx, const Blobs& bottom, const Blobs& top) const override;
  void Reshape(const Context& ctx, const Blobs& bottom, const Blobs& top) override;
  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override;
  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override;

 protected:
  // Into how many groups so many channels go.
  virtual int64_t Groups(int64_t channels) const;

  const ConvolutionSpec& plan() const { return plan_; }
  void SetPlan(const ConvolutionSpec& plan);
  Workspace WorkspaceOf(const Context& ctx, bool data, bool backward) const;
  Convolution& Operation(const Context& ctx);
  // For each Forward: brings the weights into the type of the operation, which Weights() then is.
  void TakeWeights(const Context& ctx);
  const Tensor& Weights() { return in_16_bits() ? weights_in_16_bits_ : param(0).value; }
  // x and dy are the operation's.
  void WeightGrads(const Context& ctx, const Tensor& x, const Tensor& dy);
  // Where there is a bias that the operation does not know.
  void AddBias(const Context& ctx, Blob* y);
  void BiasGrad(const Context& ctx, Blob& y);

 private:
  bool in_16_bits() const { return Has16Bits(plan_.dtype); }
  void WeightGradsIn16Bits(const Context& ctx, const Tensor& x, const Tensor& dy);

  ConvolutionSpec plan_;
  std::unique_ptr<Convolution> operation_;
  Tensor weights_in_16_bits_;  // of the last Forward
};

// A group for each channel, whether the prototxt says so or says nothing of groups.
class DepthwiseLayer : public ConvolutionLayer {
 public:
  using ConvolutionLayer::ConvolutionLayer;

 protected:
  int64_t Groups(int64_t channels) const override;
};

}  // namespace crema
