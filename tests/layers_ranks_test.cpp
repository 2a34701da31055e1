// Layers on several ranks, each with its part of the batch, against one rank with all of it.
#include <numeric>

#include "contract.hpp"
#include "crema/io.hpp"

namespace crema {
namespace {

struct Result {
  std::vector<std::vector<double>> tops;
  std::vector<std::vector<LayerBench::Gradient>> gradients;
};

// Rows [begin, begin + rows) of `all`, which has `total` rows.
std::vector<double> RowsOf(const std::vector<double>& all, int64_t total, int64_t begin, int64_t rows) {
  const int64_t width = static_cast<int64_t>(all.size()) / total;
  return {all.begin() + begin * width, all.begin() + (begin + rows) * width};
}

// `row` is for the whole batch; rank r gets batches[r] samples of it. A top without axes is the same number
// on every rank; others are spread as the batch.
Result RunOnRanks(const ContractRow& row, const std::vector<int64_t>& batches) {
  const int64_t total = std::accumulate(batches.begin(), batches.end(), int64_t{0});
  LayerBench whole(row);
  std::vector<std::vector<double>> inputs, top_grads;  // here, since a device belongs to one thread
  for (Blob* bottom : whole.bottom) inputs.push_back(ValuesOf(bottom->data()));
  for (Blob* top : whole.top)
    top_grads.push_back(whole.HasBackward() ? ValuesOf(top->grad()) : std::vector<double>());
  Result result;
  result.tops.resize(batches.size()), result.gradients.resize(batches.size());
  RunRanks(static_cast<int>(batches.size()), [&](Communicator& comm) {
    const size_t rank = static_cast<size_t>(comm.rank());
    const int64_t rows = batches[rank];
    const int64_t begin = std::accumulate(batches.begin(), batches.begin() + comm.rank(), int64_t{0});
    ContractRow mine = row;
    for (ContractBottom& bottom : mine.bottoms) bottom.shape[0] = rows;
    LayerBench bench(mine, DType::kF64, 1, &comm);
    for (size_t k = 0; k < bench.bottom.size(); ++k)
      Put(RowsOf(inputs[k], total, begin, rows), &bench.bottom[k]->data());
    for (size_t k = 0; k < bench.top.size(); ++k) {
      const bool spread = bench.HasBackward() && bench.top[k]->axes() > 0 && bench.top[k]->dim(0) == rows;
      if (spread) Put(RowsOf(top_grads[k], total, begin, rows), &bench.top[k]->grad());
    }
    bench.Forward();
    if (bench.HasBackward()) bench.Backward();
    result.tops[rank] = bench.Tops();
    if (bench.HasBackward()) result.gradients[rank] = bench.Gradients();
  });
  return result;
}

void ExpectAsOneRank(const ContractRow& row, const std::vector<int64_t>& batches, bool global_top) {
  LayerBench whole(row);
  whole.Forward();
  if (whole.HasBackward()) whole.Backward();
  const Result parts = RunOnRanks(row, batches);
  std::vector<double> together;
  for (const auto& tops : parts.tops) {
    if (global_top) ExpectClose(tops, whole.Tops(), 1e-12, "tops");
    together.insert(together.end(), tops.begin(), tops.end());
  }
  if (!global_top) ExpectClose(together, whole.Tops(), 0, "tops");
  if (!whole.HasBackward()) return;
  const auto expected = whole.Gradients();
  for (size_t k = 0; k < expected.size(); ++k) {
    together.clear();
    const bool of_weight = expected[k].name.rfind("bottom", 0) != 0;  // the solver adds the ranks' up
    for (const auto& gradients : parts.gradients) {
      const std::vector<double>& grad = gradients[k].grad;
      if (!of_weight) together.insert(together.end(), grad.begin(), grad.end());
      if (of_weight) together.resize(grad.size());
      for (size_t i = 0; of_weight && i < grad.size(); ++i) together[i] += grad[i];
    }
    ExpectClose(together, expected[k].grad, 1e-12, expected[k].name);
  }
}

class LayersOnRanks : public testing::TestWithParam<std::vector<int64_t>> {
 protected:
  int64_t total() const { return std::accumulate(GetParam().begin(), GetParam().end(), int64_t{0}); }
};
INSTANTIATE_TEST_SUITE_P(Batches, LayersOnRanks,
                         testing::Values(std::vector<int64_t>{3, 3}, std::vector<int64_t>{1, 4},
                                         std::vector<int64_t>{2, 2, 2}, std::vector<int64_t>{3, 1, 5}));

TEST_P(LayersOnRanks, SoftmaxWithLoss) {
  const std::vector<ContractBottom> bottoms = {{{total(), 4, 2, 3}}, {{total(), 2, 3}, Fill::kLabel, 4}};
  for (const char* fields :
       {"", "loss_param { ignore_label: 2 }", "loss_param { ignore_label: 2 normalization: FULL }",
        "loss_param { normalization: BATCH_SIZE }", "loss_param { normalization: NONE }"}) {
    ExpectAsOneRank({"SoftmaxWithLoss", "", fields, bottoms}, GetParam(), true);
  }
}

TEST_P(LayersOnRanks, EuclideanLoss) {
  ExpectAsOneRank({"EuclideanLoss", "", "", {{{total(), 5}}, {{total(), 5}}}}, GetParam(), true);
}

TEST_P(LayersOnRanks, LossesOfCaffe) {
  const ContractBottom vectors{{total(), 5}}, label{{total()}, Fill::kLabel, 5},
      alike{{total()}, Fill::kLabel, 2};
  ExpectAsOneRank({"ContrastiveLoss", "", "contrastive_loss_param { margin: 4 }", {vectors, vectors, alike}},
                  GetParam(), true);
  ExpectAsOneRank({"HingeLoss", "", "hinge_loss_param { norm: L2 }", {vectors, label}}, GetParam(), true);
  ExpectAsOneRank({"MultinomialLogisticLoss", "", "", {{{total(), 5}, Fill::kPositive}, label}}, GetParam(),
                  true);
  for (const char* fields : {"", "loss_param { ignore_label: 0 normalization: VALID }"}) {
    const ContractBottom target{{total(), 5}, Fill::kLabel, 2};
    ExpectAsOneRank({"SigmoidCrossEntropyLoss", "", fields, {vectors, target}}, GetParam(), true);
  }
}

TEST_P(LayersOnRanks, InfogainLoss) {
  const std::string path = testing::TempDir() + "infogain_on_ranks.binaryproto";
  BlobProto matrix;
  for (int k = 0; k < 9; ++k) matrix.add_data(static_cast<float>(k % 4));
  WriteBinary(path, matrix);
  ExpectAsOneRank({"InfogainLoss",
                   "",
                   "infogain_loss_param { source: '" + path + "' } loss_param { ignore_label: 1 }",
                   {{{total(), 3, 2, 2}}, {{total(), 2, 2}, Fill::kLabel, 3}}},
                  GetParam(), true);
}

TEST_P(LayersOnRanks, StochasticPooling) {
  const std::string fields = "pooling_param { pool: STOCHASTIC kernel_size: 2 }";
  ExpectAsOneRank({"Pooling", "", fields, {{{total(), 3, 4, 5}, Fill::kPositive}}}, GetParam(), false);
}

// Each rank's numbers are other ones, together those of one rank with all.
TEST(DummyDataOnRanks, GivesEachItsOwnNumbers) {
  const auto fields = [](int rows) {
    return Concat("dummy_data_param { shape { dim: ", rows, " dim: 3 } data_filler { type: 'gaussian' } }");
  };
  LayerBench whole({"DummyData", "", fields(6), {}});
  whole.Forward();
  const Result parts = RunOnRanks({"DummyData", "", fields(2), {}}, {2, 2, 2});
  std::vector<double> together;
  for (const auto& tops : parts.tops) together.insert(together.end(), tops.begin(), tops.end());
  EXPECT_EQ(together, whole.Tops());
}

// Two classes, so that most ranks have samples of each, and one that some ranks have none of.
TEST_P(LayersOnRanks, CenterLoss) {
  for (int64_t classes : {2, 5}) {
    const std::string fields = Concat("center_loss_param { num_output: ", classes, " }");
    ExpectAsOneRank({"CenterLoss", "", fields, {{{total(), 3}}, {{total()}, Fill::kLabel, classes}}},
                    GetParam(), true);
  }
}

TEST_P(LayersOnRanks, MarginInnerProduct) {
  ExpectAsOneRank({"MarginInnerProduct",
                   "",
                   "margin_inner_product_param { num_output: 4 type: QUADRUPLE }",
                   {{{total(), 5}}, {{total()}, Fill::kLabel, 4}}},
                  GetParam(), false);
}

TEST_P(LayersOnRanks, MarginSoftmaxWithoutShards) {
  ExpectAsOneRank({"MarginSoftmax",
                   "",
                   "margin_softmax_param { scale: 8 m2: 0.5 }",
                   {{{total(), 5}, Fill::kCosine}, {{total()}, Fill::kLabel, 5}}},
                  GetParam(), true);
}

TEST_P(LayersOnRanks, Accuracy) {
  const std::vector<ContractBottom> bottoms = {{{total(), 3}}, {{total()}, Fill::kLabel, 3}};
  ExpectAsOneRank({"Accuracy", "", "", bottoms, 2}, GetParam(), true);
  ExpectAsOneRank({"Accuracy", "", "accuracy_param { top_k: 2 ignore_label: 1 }", bottoms, 2}, GetParam(),
                  true);
}

TEST_P(LayersOnRanks, Dropout) {
  ExpectAsOneRank({"Dropout", "", "", {{{total(), 6, 2, 3}}}}, GetParam(), false);
  ExpectAsOneRank({"Dropout", "", "", {{{total(), 6}}}}, GetParam(), false);
}

}  // namespace
}  // namespace crema
