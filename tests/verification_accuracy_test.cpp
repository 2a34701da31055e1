// VerificationAccuracy over a test pass, on one rank and several, against the evaluation wing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "crema/eval.hpp"
#include "crema/layer.hpp"
#include "test_place.hpp"

namespace crema {
namespace {

constexpr int64_t kDim = 5;

// Embeddings of pairs, two after two: the same person's are closer.
struct PairSet {
  std::vector<float> embeddings;
  std::vector<int64_t> labels;

  explicit PairSet(int64_t pairs) {
    const Philox random = MakePhilox(3, "pairs");
    uint64_t at = 0;
    for (int64_t k = 0; k < pairs; ++k) {
      const int64_t same = k % 3 == 0;
      std::vector<double> first(kDim);
      for (double& x : first) x = random.Normal(at++);
      for (int image = 0; image < 2; ++image) {
        labels.push_back(same);
        for (double x : first) {
          const double other = random.Normal(at++);
          embeddings.push_back(static_cast<float>(7 * (image == 0 ? x : same ? x + 0.8 * other : other)));
        }
      }
    }
  }

  Verification Measure(int64_t pairs, int64_t folds) const {
    std::vector<float> rows(embeddings.begin(), embeddings.begin() + 2 * pairs * kDim);
    NormalizeRows(2 * pairs, kDim, rows.data());
    std::vector<FacePair> list;
    std::vector<uint8_t> same;
    for (int64_t k = 0; k < pairs; ++k) {
      list.push_back({2 * k, 2 * k + 1});
      same.push_back(labels[static_cast<size_t>(2 * k)] == 1);
    }
    return Verify(PairDistances(rows, kDim, list), same, MakeFolds(same, folds));
  }
};

class Runner {
 public:
  Runner(Communicator& comm, const std::string& parameters, int tops = 2)
      : place_(comm), x_("x"), label_("label"), accuracy_("accuracy"), tar_("tar") {
    LayerParameter spec;
    spec.set_name("lfw");
    spec.set_type("VerificationAccuracy");
    spec.set_phase(TEST);
    if (!parameters.empty()) {
      spec.mutable_verification_param()->set_folds(std::stoi(parameters));
      spec.mutable_verification_param()->set_far(0.1f);
    }
    layer_ = NewLayer(spec);
    top_ = {&accuracy_};
    if (tops > 1) top_.push_back(&tar_);
  }

  // Runs the samples [begin, end) of a set; the results are in accuracy() and tar().
  void Forward(int64_t pass, const PairSet& set, int64_t begin, int64_t end) {
    Context& ctx = place_;
    ctx.pass = pass;
    x_.Reshape(DType::kF32, {end - begin, kDim});
    label_.Reshape(DType::kI64, {end - begin});
    layer_->Reshape(ctx, {&x_, &label_}, top_);
    for (Blob* blob : {&x_, &label_, &accuracy_, &tar_})
      blob->data() = Tensor(*ctx.device, blob->dtype(), blob->shape());
    x_.data().CopyFromHost(set.embeddings.data() + begin * kDim, (end - begin) * kDim);
    label_.data().CopyFromHost(set.labels.data() + begin, end - begin);
    layer_->Forward(ctx, {&x_, &label_}, top_);
  }
  double accuracy() { return static_cast<double>(accuracy_.data().ToHost<float>()[0]); }
  double tar() { return static_cast<double>(tar_.data().ToHost<float>()[0]); }
  const Layer& layer() const { return *layer_; }

 private:
  TestPlace place_;
  Blob x_, label_, accuracy_, tar_;
  Blobs top_;
  std::unique_ptr<Layer> layer_;
};

TEST(VerificationAccuracy, MeasuresAllPairsOfTheTestPassOnAnyNumberOfRanks) {
  const PairSet set(120);
  for (int ranks : {1, 2, 3}) {
    RunRanks(ranks, [&](Communicator& comm) {
      Runner runner(comm, "6");
      EXPECT_TRUE(runner.layer().AccumulatesOverPass());
      for (int repeat = 0; repeat < 2; ++repeat) {  // a second test pass starts afresh
        // 20 pairs a pass; the last rank has the larger share where they do not divide.
        const int64_t share = 20 / ranks, mine = comm.rank() + 1 < ranks ? share : 20 - share * (ranks - 1);
        for (int64_t pass = 0; pass < 6; ++pass) {
          const int64_t begin = 2 * (20 * pass + share * comm.rank());
          runner.Forward(pass, set, begin, begin + 2 * mine);
          const Verification expected = set.Measure(20 * (pass + 1), 6);
          EXPECT_NEAR(runner.accuracy(), expected.accuracy, 1e-6);
          ASSERT_GE(expected.different_pairs, 10);
          EXPECT_NEAR(runner.tar(), *TarAtFar(expected, 0.1), 1e-6);
        }
      }
    });
  }
}

TEST(VerificationAccuracy, TooFewPairsGiveNoRate) {
  const PairSet set(12);
  auto self = NewSelfCommunicator();
  Runner runner(*self, "");  // FAR 1e-2 needs 100 different pairs
  runner.Forward(0, set, 0, 24);
  EXPECT_NEAR(runner.accuracy(), set.Measure(12, 10).accuracy, 1e-6);
  EXPECT_TRUE(std::isnan(runner.tar()));
  runner.Forward(0, set, 0, 2);  // one pair, of one kind, in fewer folds
  EXPECT_GE(runner.accuracy(), 0);
  EXPECT_TRUE(std::isnan(runner.tar()));
}

TEST(VerificationAccuracy, NamesWhatIsWrong) {
  using testing::HasSubstr;
  auto self = NewSelfCommunicator();
  const auto complaint = [&](const PairSet& set, int64_t begin, int64_t end) -> std::string {
    try {
      Runner(*self, "2").Forward(0, set, begin, end);
    } catch (const Error& error) {
      return error.what();
    }
    return "none";
  };
  PairSet set(4);
  EXPECT_THAT(complaint(set, 0, 3), HasSubstr("layer 'lfw' (VerificationAccuracy): bottom 'x' is 3x5"));
  EXPECT_THAT(complaint(set, 1, 3), HasSubstr("the samples of pair 0 have the labels 1 and 0"));
  set.embeddings[2 * kDim] = NAN;
  EXPECT_THAT(complaint(set, 0, 8), HasSubstr("the embeddings of pair 1 are not finite"));
}

}  // namespace
}  // namespace crema
