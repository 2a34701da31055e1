// Floor 4, used by net_fuse.cpp alone. DistPartialFC + MarginSoftmax as one layer.
#pragma once

#include <future>
#include <memory>

#include "crema/layer.hpp"
#include "head/row_stage.hpp"
#include "head/streaming_softmax.hpp"
#include "net/partial_fc.hpp"

namespace crema {

// Loss and gradients of the pair without its logits: classes go by in chunks (head/streaming_softmax.hpp),
// and where the optimiser allows it their rows are updated while they are at hand. One small all-gather joins
// the ranks' softmaxes. Shares the centres of the DistPartialFC layer.
class StreamingHead final : public Layer {
 public:
  // Both must outlive this one.
  StreamingHead(Layer& partial_fc, Layer& margin_softmax);

  Arity arity() const override { return {2, 2, 1, 1}; }
  Layouts layouts() const override { return Layouts::kCaffe; }
  bool BottomHasGradient(int index) const override { return index == 0; }
  bool IsLoss() const override { return true; }
  int64_t MultiplyAdds(const Blobs& bottom, const Blobs& top) const override;
  std::string Note() override;

  Workspace WorkspaceFor(const Context& ctx, const Blobs& bottom, const Blobs& top) const override;
  std::vector<Collective> Collectives(const Context& ctx, const Blobs& bottom,
                                      const Blobs& top) const override;
  void Reshape(const Context& ctx, const Blobs& bottom, const Blobs& top) override;
  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override;
  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override;

  // Where the time went, and its memory beyond the centres, since the last ResetTimes.
  StreamingTimes times() const;
  void ResetTimes();
  int64_t bytes() const;

 private:
  // Calls f.operator()<T, F>() with the types of the softmax that is used on this device.
  template <class Body>
  void ForFactors(const Context& ctx, DType real, const Body& f) const;
  template <class T, class F>
  StreamingSoftmax<T, F>& softmax();
  template <class T, class F>
  typename StreamingSoftmax<T, F>::Batch MakeBatch(const Context& ctx) const;
  template <class T>
  void JoinRanks(const Context& ctx, const Tensor& mine, Blob* top);
  void ReadAhead(const Context& ctx);
  int64_t keep_bytes() const;
  bool UpdatesAtOnce() const;
  bool FetchesRows(const Context& ctx, bool backward) const;
  std::vector<Tensor> Tensors() const;
  template <class T, class F>
  void BackwardOf(const Context& ctx, const Blob& loss, Blob* embedding);

  Layer &partial_fc_, &margin_softmax_;
  PartialFc fc_;
  Tensor positions_;   // the samples', on the device
  Tensor loss_;        // [1], of the last Forward
  Tensor statistics_;  // [2, samples], of all ranks: largest logit, sum of exponentials less it
  std::unique_ptr<StreamingSoftmax<float>> f32_;
  std::unique_ptr<StreamingSoftmax<double>> f64_;
  std::unique_ptr<StreamingSoftmax<float, BFloat16>> bf16_;  // for centres of bfloat16 where that is fast
  std::future<void> read_ahead_;
  std::unique_ptr<RowStage> stage_;  // made when it is first needed
  bool staged_ = false;              // the rows of this pass are there
  double draw_seconds_ = 0;
  int64_t noted_chunks_ = 0, noted_skipped_ = 0;
};

}  // namespace crema
