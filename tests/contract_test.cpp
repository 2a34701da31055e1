// The contract of crema/layer.hpp, for every registered layer type.
#include <filesystem>
#include <set>

#include "contract.hpp"
#include "contract_rows.hpp"

namespace crema {
namespace {

class Contract : public testing::TestWithParam<ContractRow> {
 protected:
  const ContractRow& row() const { return GetParam(); }
  // A bench after Forward and Backward.
  std::unique_ptr<LayerBench> Ran(DType real = DType::kF64, int64_t block = 1) const {
    auto bench = std::make_unique<LayerBench>(row(), real, block);
    bench->Forward();
    if (bench->HasBackward()) bench->Backward();
    return bench;
  }
};

std::string NameOfRow(const testing::TestParamInfo<ContractRow>& info) {
  return info.param.type + (info.param.what.empty() ? "" : "_" + info.param.what);
}
INSTANTIATE_TEST_SUITE_P(Layers, Contract, testing::ValuesIn(ContractRows()), NameOfRow);

void ExpectSame(LayerBench& found, LayerBench& expected, double tolerance, const std::string& what) {
  ExpectClose(found.Tops(), expected.Tops(), tolerance, what + ", tops");
  const auto a = found.Gradients(), b = expected.Gradients();
  ASSERT_EQ(a.size(), b.size());
  if (!found.HasBackward()) return;
  for (size_t k = 0; k < a.size(); ++k) ExpectClose(a[k].grad, b[k].grad, tolerance, what + ", " + a[k].name);
}

// Central differences of a random sum of the tops.
TEST_P(Contract, GradientsAreThoseOfFiniteDifferences) {
  if (row().gradient == GradientIs::kOfTheFork) return;
  const auto bench = Ran();
  if (!bench->HasBackward()) return;
  constexpr double kStep = 1e-5;
  constexpr size_t kMost = 120;  // elements tried of each tensor
  for (LayerBench::Gradient& gradient : bench->Gradients()) {
    std::vector<double> values = ValuesOf(*gradient.value), found, expected;
    const size_t stride = values.size() / kMost + 1;
    for (size_t i = 0; i < values.size(); i += stride) {
      const double middle = values[i];
      values[i] = middle + kStep, Put(values, gradient.value);
      const double above = bench->Objective();
      values[i] = middle - kStep, Put(values, gradient.value);
      const double below = bench->Objective();
      values[i] = middle;
      found.push_back(gradient.grad[i]);
      expected.push_back((above - below) / (2 * kStep));
    }
    Put(values, gradient.value);
    ExpectClose(found, expected, row().tolerance, gradient.name);
  }
}

TEST_P(Contract, WritesAllTopsAndBottomGradients) {
  const auto bench = Ran();
  for (double value : bench->Tops()) EXPECT_TRUE(std::isfinite(value));
  if (!bench->HasBackward()) return;
  for (const auto& gradient : bench->Gradients()) {
    for (size_t i = 0; i < gradient.grad.size(); ++i)
      ASSERT_TRUE(std::isfinite(gradient.grad[i])) << gradient.name << " element " << i;
  }
}

TEST_P(Contract, AddsParamGradientsAndWritesBottomGradients) {
  const auto bench = Ran();
  if (!bench->HasBackward()) return;
  auto once = bench->Gradients();
  bench->Backward();
  const auto twice = bench->Gradients();
  for (size_t k = 0; k < once.size(); ++k) {
    const bool is_bottom = once[k].name.rfind("bottom", 0) == 0;
    for (double& x : once[k].grad) x *= is_bottom ? 1 : 2;
    ExpectClose(twice[k].grad, once[k].grad, is_bottom ? 0 : 1e-12, once[k].name);
  }
}

TEST_P(Contract, BackwardReadsOnlyWhatItNames) {
  const auto bench = Ran();
  if (!bench->HasBackward()) return;
  const auto expected = bench->Gradients();
  bench->ZeroParamGrads();
  bench->Forward();
  const int reads = static_cast<int>(bench->layer->BackwardReads());
  if ((reads & static_cast<int>(Reads::kBottom)) == 0) {
    for (Blob* x : bench->bottom) Poison(&x->data());
  }
  if ((reads & static_cast<int>(Reads::kTop)) == 0) {
    for (Blob* y : bench->top) Poison(&y->data());
  }
  bench->Backward();
  const auto found = bench->Gradients();
  for (size_t k = 0; k < found.size(); ++k) ExpectClose(found[k].grad, expected[k].grad, 0, found[k].name);
}

TEST_P(Contract, ChangesNothingElse) {
  LayerBench bench(row());
  std::vector<std::vector<double>> bottoms;
  for (Blob* x : bench.bottom) bottoms.push_back(ValuesOf(x->data()));
  bench.Forward();
  const std::vector<double> tops = bench.Tops();
  if (bench.HasBackward()) {
    bench.Backward();
    ExpectClose(bench.Tops(), tops, 0, "tops after Backward");
  }
  for (size_t k = 0; k < bottoms.size(); ++k)
    ExpectClose(ValuesOf(bench.bottom[k]->data()), bottoms[k], 0, bench.bottom[k]->name());
  EXPECT_TRUE(bench.GuardsAreIntact());
}

TEST_P(Contract, FollowsTheBatch) {
  if (row().batch_step == 0) return;
  LayerBench bench(row());
  bench.Forward();
  for (int64_t more : {-row().batch_step, row().batch_step}) {
    bench.Resize(more);
    bench.Forward();
    if (bench.HasBackward()) bench.Backward();
    LayerBench fresh(row());
    fresh.Resize(more);
    // Statistics have moved in the first Forward.
    for (size_t k = 0; k < fresh.layer->params().size(); ++k)
      Put(ValuesOf(bench.layer->param(k).value), &fresh.layer->param(k).value);
    fresh.Forward();
    if (fresh.HasBackward()) fresh.Backward();
    ExpectSame(bench, fresh, row().phase == TEST ? 1e-12 : 1e-9, Concat("batch larger by ", more));
    EXPECT_TRUE(bench.GuardsAreIntact());
  }
}

TEST_P(Contract, GivesTheSameInEveryLayout) {
  const bool image = !row().bottoms.empty() && row().bottoms[0].shape.size() == 4;
  const auto caffe = Ran();
  if (!image || caffe->layer->layouts() == Layouts::kCaffe) return;
  const int64_t channels = row().bottoms[0].shape[1];
  for (int64_t block : {int64_t{8}, int64_t{16}, channels}) {
    if (channels % block != 0) continue;
    const auto blocked = Ran(DType::kF64, block);
    ExpectSame(*blocked, *caffe, 1e-12, Concat("in blocks of ", block));
    EXPECT_TRUE(blocked->GuardsAreIntact());
  }
}

TEST_P(Contract, IsCloseInSinglePrecision) {
  const auto single = Ran(DType::kF32), wide = Ran();
  ExpectSame(*single, *wide, row().f32_tolerance, "f32");
}

TEST_P(Contract, GivesTheSameTwice) {
  const auto one = Ran(DType::kF32), other = Ran(DType::kF32);
  ExpectSame(*one, *other, 0, "again");
}

// Against the layer in double, given the same numbers: what is left is the rounding of its tops, and of
// weights and gradients that it multiplies.
TEST_P(Contract, IsCloseIn16Bits) {
  const auto plain = Ran();
  if (plain->layer->bits16() == Bits16::kNo) return;
  const bool image = row().bottoms[0].shape.size() == 4 && plain->layer->layouts() != Layouts::kCaffe;
  const int64_t channels = image ? row().bottoms[0].shape[1] : 1;  // in one block: channels last
  for (const auto& [dtype, tolerance, block] : {std::tuple{DType::kBF16, 0.02, int64_t{1}},
                                                {DType::kBF16, 0.02, channels},
                                                {DType::kF16, 0.0025, int64_t{1}}}) {
    LayerBench narrow(row(), DType::kF32, block, nullptr, dtype), wide(row());
    const double scale = narrow.context().grad_scale = 64;
    for (size_t k = 0; k < wide.bottom.size(); ++k)
      Put(ValuesOf(narrow.bottom[k]->data()), &wide.bottom[k]->data());
    for (size_t k = 0; k < wide.top.size(); ++k) {
      std::vector<double> grad = ValuesOf(wide.top[k]->grad());
      if (Has16Bits(narrow.top[k]->dtype())) {
        std::vector<double> scaled = grad;
        for (double& x : scaled) x *= scale;
        Put(scaled, &narrow.top[k]->grad());
      }
    }
    narrow.Forward(), wide.Forward();
    const std::string what = NameOf(dtype);
    ExpectClose(narrow.Tops(), wide.Tops(), tolerance, what + ", tops");
    if (!wide.HasBackward()) continue;
    narrow.Backward(), wide.Backward();
    const auto found = narrow.Gradients(), expected = wide.Gradients();
    for (size_t k = 0; k < found.size(); ++k) {
      std::vector<double> grad = found[k].grad;
      if (Has16Bits(found[k].value->dtype())) {
        for (double& x : grad) x /= scale;
      }
      ExpectClose(grad, expected[k].grad, tolerance, what + ", " + found[k].name);
    }
    EXPECT_TRUE(narrow.GuardsAreIntact());
  }
}

// ------------------------------------------------------------------------------------------------- registry

std::string Letters(std::string name) {  // without case and underscores
  std::erase(name, '_');
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  return name;
}

TEST(Registry, HasOneTypePerFile) {
  std::set<std::string> files, types;
  for (const auto& entry : std::filesystem::directory_iterator(CREMA_SOURCE_DIR "/layers")) {
    if (entry.path().extension() == ".cpp") files.insert(Letters(entry.path().stem().string()));
  }
  for (const LayerType* type : LayerTypes()) types.insert(Letters(type->name));
  EXPECT_EQ(files, types);
}

TEST(Registry, HasARowForEachType) {
  std::set<std::string> rows;
  for (const ContractRow& row : ContractRows()) rows.insert(row.type);
  for (const LayerType* type : LayerTypes()) {
    LayerParameter spec;
    spec.set_name("it");
    spec.set_type(type->name);
    if (NewLayer(spec)->IsSource()) continue;  // its data come from outside: tested with the data
    EXPECT_EQ(rows.count(type->name), 1u) << "add a row for " << type->name << " to contract_rows.hpp";
  }
}

}  // namespace
}  // namespace crema
