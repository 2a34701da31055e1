// Floor 4. What DistPartialFC and the streaming head have in common: the global batch, the classes drawn for
// it, and the way of embeddings and their gradients between the ranks. Called by these two.
#pragma once

#include <optional>
#include <vector>

#include "crema/head.hpp"
#include "crema/layer.hpp"
#include "head/row_kernels.hpp"

namespace crema {

class PartialFc {
 public:
  // The DistPartialFC layer, which must outlive this.
  explicit PartialFc(const Layer& layer) : layer_(layer) {}

  // Checks the options and the bottoms and learns every rank's batch. Throws Error naming the layer.
  // Collective.
  void Reshape(const Context& ctx, const Blob& embedding, const Blob& label);
  // Gathers the labels of the global batch, as rows, and draws this rank's rows for it. Throws Error for a
  // label that is not a class. Collective.
  void Draw(const Context& ctx, const Blob& label);
  // Gathers the global batch's embeddings and brings them to unit length. Collective.
  void GatherEmbeddings(const Context& ctx, const Blob& embedding);
  // Sums `unit_grad` [samples, width], with regard to the unit embeddings, over the ranks, and writes the
  // gradient of this rank's embeddings. Collective.
  void ScatterGrad(const Context& ctx, const Tensor& unit_grad, Blob* embedding) const;
  // Adds the gradients [row_count, width] of the rows drawn to those by rows of the weight. Later passes of
  // an iteration (iter_size) may have drawn other rows: the gradient then covers all of them.
  void AddRowGrad(const Context& ctx, const Tensor& grad, Param* weight) const;

  // What this takes and exchanges in a pass; `backward`: with the gradient of the embeddings.
  Workspace WorkspaceFor(const Context& ctx, DType dtype, bool backward) const;
  std::vector<Collective> Collectives(DType dtype, bool backward) const;
  // Bytes of the gradients of all rows drawn, with their numbers, until the optimiser has taken them.
  int64_t RowGradBytes(const Context& ctx, DType dtype) const;

  int64_t classes() const { return classes_; }
  int64_t width() const { return width_; }
  int64_t samples() const { return samples_; }   // of the global batch
  const Shard& shard() const { return shard_; }  // of rows
  // Key by which identities are given their rows, where that is not in order (draw: BLOCKS).
  std::optional<uint64_t> assignment(const Context& ctx) const;
  // The rows that an iteration would draw for a batch without labels.
  std::vector<int64_t> RowsOf(const Context& ctx, int64_t iteration) const {
    return draw(ctx).Draw(shard_, iteration, {});
  }
  // Those that the coming iteration will draw, as far as is known: of the labels of its batch, those that the
  // data layer of their rank has already. Collective.
  std::vector<int64_t> ComingRows(const Context& ctx, const Blob& label) const;
  bool draws_all(const Context& ctx) const { return draw(ctx).DrawsAll(); }
  bool all_rows() const { return all_rows_; }  // in this pass
  int64_t most_rows(const Context& ctx) const { return draw(ctx).MostRows(shard_, samples_); }

  // The rows drawn, sorted local numbers, on the device; null: all rows of the shard.
  const int64_t* rows() const { return all_rows_ ? nullptr : index_.data<int64_t>(); }
  const Tensor& row_index() const { return index_; }  // the same, i64 [row_count]; not of all rows
  int64_t row_count() const { return all_rows_ ? shard_.rows : static_cast<int64_t>(rows_.size()); }
  // Of each sample of the global batch: its class among the rows drawn; -1 where another rank owns it.
  const std::vector<int64_t>& positions() const { return positions_; }
  const Tensor& embeddings() const { return embeddings_; }  // [samples, width], at unit length

 private:
  ClassDraw draw(const Context& ctx) const;
  bool draws_blocks() const;
  uint64_t key(const Context& ctx, const char* what) const;
  bool IsClass(int64_t label) const { return label >= 0 && label < classes_; }
  void BecomeRows(const Context& ctx, std::vector<int64_t>* labels) const;
  std::vector<int64_t> GatherRows(const Context& ctx, const Blob& label) const;
  std::vector<int64_t> RowList() const;
  template <class... Parts>
  void Check(bool ok, const Parts&... parts) const {
    if (!ok) Fail("layer '", layer_.name(), "' (", layer_.type(), "): ", Concat(parts...));
  }

  const Layer& layer_;
  int64_t classes_ = 0, width_ = 0, samples_ = 0;
  std::vector<int64_t> batches_;  // samples of each rank
  Shard shard_;
  bool all_rows_ = false;
  std::vector<int64_t> rows_, positions_;
  Tensor index_;  // rows_ on the device
  Tensor embeddings_, inverse_norm_;
};

}  // namespace crema
