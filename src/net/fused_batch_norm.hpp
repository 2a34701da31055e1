// Floor 4, used by net_fuse.cpp alone. BatchNorm + Scale (+ PReLU or ReLU) as one layer.
#pragma once

#include "crema/layer.hpp"
#include "net/batch_moments.hpp"

namespace crema {

// y = act(a x_hat + b), x_hat the normalised bottom. Two sweeps forward (statistics, result) and two backward
// (sums, gradient) instead of twice as many and more; backward reads the bottom alone and makes x_hat and the
// input of the activation again, so that nothing in between is kept. Shares the params of the layers it
// stands for.
class FusedBatchNorm final : public Layer {
 public:
  // Whether a layer of the chain has a form that the fused layer knows.
  static bool TakesScale(const Layer& layer);       // by channel, with a bias, one bottom
  static bool TakesActivation(const Layer& layer);  // PReLU by channel or ReLU

  // `activation` may be null. The layers must outlive this one.
  FusedBatchNorm(Layer& norm, Layer& scale, Layer* activation);

  Bits16 bits16() const override { return Bits16::kFollows; }
  Reads BackwardReads() const override { return Reads::kBottom; }
  bool CanRecompute() const override { return true; }
  void Reshape(const Context& ctx, const Blobs& bottom, const Blobs& top) override;
  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override;
  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override;
  void Recompute(const Context& ctx, const Blobs& bottom, const Blobs& top) override;

 private:
  bool uses_running() const;
  template <class T>
  void FoldPart(const Context& ctx, const Channel& order, const Groups& part);
  // `sums` [C, 3] holds zeros before, `k` [3, C] the factors of the bottom's gradient afterwards.
  template <class T, class S>
  void BackwardPart(const Context& ctx, Blob& x, Blob& y, const Groups& part, Tensor* sums, Tensor* k);

  Layer &norm_, &scale_;
  Layer* activation_;
  bool has_slope_ = false;  // PReLU's, learnt
  Tensor folded_;           // [3, C]: factor and offset of x before the activation, and its slope
  BatchMoments moments_;
};

}  // namespace crema
