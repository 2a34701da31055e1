// A layer alone, as the contract's tests run it: bottoms filled by hand, memory with guards around it.
#pragma once

#include <string>
#include <vector>

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "crema/layer.hpp"
#include "test_place.hpp"

namespace crema {

enum class Fill {
  kNormal,    // at least 0.1 from 0
  kPositive,  // 0.5 to 1.5
  kDistinct,  // no two closer than 0.05
  kCosine,    // -0.8 to 0.8
  kLabel,     // i64, 0 to classes - 1
  kPairLabel  // i64, the same 0 or 1 twice
};

struct ContractBottom {
  Shape shape;
  Fill fill = Fill::kNormal;
  int64_t classes = 0;
};

// What a layer hands down: the derivative of its tops, or what the fork of Caffe that it comes from computes
// instead, which fork_layers_test.cpp compares with a formula of its own.
enum class GradientIs { kDerivative, kOfTheFork };

struct ContractRow {
  std::string type, what, fields;  // fields: prototxt of the LayerParameter
  std::vector<ContractBottom> bottoms;
  int tops = 1;
  Phase phase = TRAIN;
  double tolerance = 1e-6;  // of the gradients, relative to the largest
  double f32_tolerance = 1e-4;
  int64_t batch_step = 1;  // by which the batch may change; 0 where the shape is bound to it
  GradientIs gradient = GradientIs::kDerivative;
};

inline void PrintTo(const ContractRow& row, std::ostream* out) {
  *out << row.type << " " << row.what;
}

// Physical index of each element in Caffe's order.
inline std::vector<size_t> CaffeOrder(const Shape& shape, int64_t block) {
  std::vector<size_t> order(static_cast<size_t>(CountOf(shape)));
  const bool blocked = shape.size() == 4 && block > 1;
  const int64_t channels = blocked ? shape[1] : 1, inner = blocked ? shape[2] * shape[3] : 1;
  const Channel layout{1, blocked ? channels / block : 1, inner, blocked ? block : 1};
  for (size_t i = 0; i < order.size(); ++i) {
    const int64_t k = static_cast<int64_t>(i);
    order[i] = static_cast<size_t>(layout.at(k / (channels * inner), k / inner % channels, k % inner));
  }
  return order;
}

inline std::vector<double> ValuesOf(const Tensor& tensor) {  // in Caffe's order
  std::vector<double> values(static_cast<size_t>(tensor.count()));
  const std::vector<size_t> order = CaffeOrder(tensor.shape(), tensor.block());
  const auto read = [&]<class, class Stored>() {
    const std::vector<Stored> raw = tensor.ToHost<Stored>();
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(raw[order[i]]);
  };
  if (tensor.dtype() == DType::kI64) {
    read.operator()<int64_t, int64_t>();
  } else {
    ForBlob(tensor.dtype(), read);
  }
  return values;
}

inline void Put(const std::vector<double>& values, Tensor* tensor) {  // from Caffe's order
  const std::vector<size_t> order = CaffeOrder(tensor->shape(), tensor->block());
  const auto write = [&]<class, class Stored>() {
    std::vector<Stored> raw(values.size());
    for (size_t i = 0; i < values.size(); ++i) raw[order[i]] = static_cast<Stored>(values[i]);
    tensor->FromHost(raw);
  };
  if (tensor->dtype() == DType::kI64) {
    write.operator()<int64_t, int64_t>();
  } else {
    ForBlob(tensor->dtype(), write);
  }
}

// Not a number, or the label -1, everywhere.
inline void Poison(Tensor* tensor) {
  const double value = tensor->dtype() == DType::kI64 ? -1 : std::numeric_limits<double>::quiet_NaN();
  Put(std::vector<double>(static_cast<size_t>(tensor->count()), value), tensor);
}

class LayerBench {
 public:
  // A communicator, where one is given, outlives it. With activations of 16 bits the layer gets its bottoms
  // so if it takes them.
  explicit LayerBench(const ContractRow& row, DType real = DType::kF64, int64_t block = 1,
                      Communicator* comm = nullptr, DType activations = DType::kF64)
      : row_(row),
        block_(block),
        place_(comm ? std::make_unique<TestPlace>(*comm) : std::make_unique<TestPlace>()) {
    context().real = real;
    context().activations = Has16Bits(activations) ? activations : real;
    context().seed = 7;
    LayerParameter spec;
    if (!google::protobuf::TextFormat::ParseFromString(row.fields, &spec)) Fail("bad fields of ", row.type);
    spec.set_name("it");
    spec.set_type(row.type);
    spec.set_phase(row.phase);
    for (size_t k = 0; k < row.bottoms.size(); ++k) {
      spec.add_bottom(Concat("bottom", k));
      bottoms_.push_back(std::make_unique<Blob>(Concat("bottom", k)));
      bottom.push_back(bottoms_.back().get());
    }
    for (int k = 0; k < row.tops; ++k) {
      spec.add_top(Concat("top", k));
      tops_.push_back(std::make_unique<Blob>(Concat("top", k)));
      top.push_back(tops_.back().get());
    }
    layer = NewLayer(spec);
    Resize(0);
  }

  // The batch becomes larger by `more`; everything is reshaped and filled anew, the params stay.
  void Resize(int64_t more) {
    guards_.clear();
    for (size_t k = 0; k < bottom.size(); ++k) {
      const ContractBottom& spec = row_.bottoms[k];
      Shape shape = spec.shape;
      if (!shape.empty() && shape[0] == row_.bottoms[0].shape[0]) shape[0] += more;
      const bool label = spec.fill == Fill::kLabel || spec.fill == Fill::kPairLabel;
      const bool blocked = shape.size() == 4 && layer->layouts() != Layouts::kCaffe;
      const DType dtype = layer->bits16() == Bits16::kNo ? context().real : context().activations;
      bottom[k]->Reshape(label ? DType::kI64 : dtype, shape, blocked ? BlockOf(shape[1]) : 1);
      bottom[k]->set_needs_grad(!label && layer->BottomHasGradient(static_cast<int>(k)));
    }
    layer->Reshape(context(), bottom, top);
    for (size_t k = 0; k < bottom.size(); ++k) {
      Bind(bottom[k]);
      Put(Filled(row_.bottoms[k], bottom[k]->name(), bottom[k]->count()), &bottom[k]->data());
    }
    for (size_t k = 0; k < top.size(); ++k) {
      Bind(top[k]);
      top[k]->data().Zero();
      if (!IsReal(*top[k])) continue;
      if (!layer->IsLoss() || k == 0) {
        Put(Normal(top[k]->name() + "/grad", top[k]->count(), 0), &top[k]->grad());
      } else {
        top[k]->grad().Zero();
      }
    }
    for (auto& param : layer->params()) BindParam(param.get());
    ZeroParamGrads();
  }

  void Forward() {
    for (Blob* y : top) {
      if (layer->type() != "Input") Poison(&y->data());  // an Input's tops are filled by its caller
    }
    layer->Forward(context(), bottom, top);
  }
  void Backward() {
    for (Blob* x : bottom) {
      if (x->needs_grad()) Poison(&x->grad());
    }
    layer->Backward(context(), top, bottom);
  }
  bool HasBackward() const {
    bool any = false;
    for (const Blob* x : bottom) any |= x->needs_grad();
    for (const auto& param : layer->params()) any |= param->needs_grad();
    return any;
  }
  void ZeroParamGrads() {
    for (auto& param : layer->params()) {
      if (!param->grad.empty()) param->grad.Zero();
      param->rows.clear();
    }
  }

  // The sum of the tops' values times their gradients.
  double Objective() {
    layer->Forward(context(), bottom, top);
    double sum = 0;
    for (Blob* y : top) {
      if (!IsReal(*y)) continue;
      const std::vector<double> values = ValuesOf(y->data()), weights = ValuesOf(y->grad());
      for (size_t i = 0; i < values.size(); ++i) {
        if (weights[i] != 0) sum += weights[i] * values[i];
      }
    }
    return sum;
  }

  // All gradients, in Caffe's order; those by rows among zeros.
  struct Gradient {
    std::string name;
    Tensor* value;  // what it is the gradient of
    std::vector<double> grad;
  };
  std::vector<Gradient> Gradients() {
    std::vector<Gradient> all;
    for (Blob* x : bottom) {
      if (x->needs_grad()) all.push_back({x->name(), &x->data(), ValuesOf(x->grad())});
    }
    for (auto& param : layer->params()) {
      if (!param->needs_grad()) continue;
      all.push_back({param->name, &param->value, param->row_sparse ? Dense(*param) : ValuesOf(param->grad)});
    }
    return all;
  }
  std::vector<double> Tops() const {
    std::vector<double> all;
    for (const Blob* y : top) {
      for (double value : ValuesOf(y->data())) all.push_back(value);
    }
    return all;
  }
  // Whether nothing was written beside the tensors.
  bool GuardsAreIntact() const {
    bool intact = true;
    for (const Guard& guard : guards_) {
      std::vector<unsigned char> bytes(static_cast<size_t>(guard.bytes + 2 * kMargin));
      place_->context().device->CopyToHost(bytes.data(), guard.memory.get(), guard.bytes + 2 * kMargin);
      for (int64_t i = 0; i < kMargin; ++i) {
        intact &= bytes[i] == kGuard && bytes[kMargin + guard.bytes + i] == kGuard;
      }
    }
    return intact;
  }
  static bool IsReal(const Blob& blob) { return blob.dtype() != DType::kI64; }
  Context& context() { return place_->context(); }

  std::unique_ptr<Layer> layer;
  Blobs bottom, top;

 private:
  static constexpr int64_t kMargin = 256;
  static constexpr unsigned char kGuard = 0xA5;
  struct Guard {
    std::shared_ptr<void> memory;
    int64_t bytes;
  };

  // A GPU's library takes what it asks the net for, channels last; the CPU's takes every layout.
  int64_t BlockOf(int64_t channels) {
    const bool asks = TestsRunOnGpu() && layer->layouts() == Layouts::kDevice;
    return asks ? context().device->ChannelBlock(context().activations, channels) : block_;
  }
  Tensor Guarded(DType dtype, const Shape& shape, int64_t block) {
    const int64_t bytes = CountOf(shape) * SizeOf(dtype);
    guards_.push_back({context().device->Allocate(bytes + 2 * kMargin), bytes});
    const std::vector<unsigned char> guard(static_cast<size_t>(bytes + 2 * kMargin), kGuard);
    context().device->CopyFromHost(guards_.back().memory.get(), guard.data(), bytes + 2 * kMargin);
    return {*context().device, dtype, shape, block, guards_.back().memory, kMargin};
  }
  void Bind(Blob* blob) {
    blob->data() = Guarded(blob->dtype(), blob->shape(), blob->block());
    if (IsReal(*blob)) blob->grad() = Guarded(blob->dtype(), blob->shape(), blob->block());
  }
  void BindParam(Param* param) {
    const bool again = !param->value.empty();
    const std::vector<double> kept = again ? ValuesOf(param->value) : std::vector<double>{};
    param->value = Guarded(param->dtype, param->shape, 1);
    const bool statistic = param->kind == Param::Kind::kStatistic;
    const ContractBottom spec{param->shape, statistic ? Fill::kPositive : Fill::kNormal};
    Put(again ? kept : Filled(spec, param->name, CountOf(param->shape)), &param->value);
    if (statistic || param->row_sparse) return;
    param->grad = Guarded(param->dtype, param->shape, 1);
  }

  static std::vector<double> Normal(const std::string& what, int64_t count, double away) {
    const Philox random = MakePhilox(3, what);
    std::vector<double> values(static_cast<size_t>(count));
    for (size_t i = 0; i < values.size(); ++i) {
      const double x = random.Normal(i);
      // Rounded so that f32 and f64 start from the same numbers.
      values[i] = static_cast<double>(static_cast<float>(x + (x > 0 ? away : -away)));
    }
    return values;
  }
  static std::vector<double> Filled(const ContractBottom& spec, const std::string& what, int64_t count) {
    std::vector<double> values = Normal(what, count, 0.1);
    const Philox random = MakePhilox(4, what);
    std::vector<std::pair<double, size_t>> rank;
    for (size_t i = 0; i < values.size(); ++i) {
      const double u = static_cast<double>(static_cast<float>(random.Uniform(i)));
      if (spec.fill == Fill::kPositive) values[i] = 0.5 + u;
      if (spec.fill == Fill::kCosine) values[i] = 1.6 * u - 0.8;
      if (spec.fill == Fill::kLabel) values[i] = std::floor(u * static_cast<double>(spec.classes));
      if (spec.fill == Fill::kPairLabel) values[i] = static_cast<double>(i / 2 % 2);
      rank.push_back({u, i});
    }
    if (spec.fill == Fill::kDistinct) {
      std::sort(rank.begin(), rank.end());
      const double half = static_cast<double>(count) / 2;
      for (size_t i = 0; i < rank.size(); ++i)
        values[rank[i].second] = (static_cast<double>(i) - half) * 0.0625;
    }
    return values;
  }
  static std::vector<double> Dense(const Param& param) {
    std::vector<double> dense(static_cast<size_t>(CountOf(param.shape)));
    const std::vector<double> rows = ValuesOf(param.row_grad);
    const size_t width = static_cast<size_t>(CountOf(param.shape) / param.shape[0]);
    for (size_t r = 0; r < param.rows.size(); ++r) {
      for (size_t k = 0; k < width; ++k)
        dense[static_cast<size_t>(param.rows[r]) * width + k] = rows[r * width + k];
    }
    return dense;
  }

  ContractRow row_;
  int64_t block_;
  std::unique_ptr<TestPlace> place_;
  std::vector<std::unique_ptr<Blob>> bottoms_, tops_;
  std::vector<Guard> guards_;
};

// The tops that a layer makes of the given bottoms.
inline std::vector<double> TopsOf(const ContractRow& row, const std::vector<std::vector<double>>& bottoms) {
  LayerBench bench(row);
  for (size_t k = 0; k < bottoms.size(); ++k) Put(bottoms[k], &bench.bottom[k]->data());
  bench.Forward();
  return bench.Tops();
}

// What it says instead; empty: nothing.
inline std::string ErrorOf(const ContractRow& row, const std::vector<std::vector<double>>& bottoms = {}) {
  try {
    TopsOf(row, bottoms);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

// The gradient of the first bottom for the given gradient of the top.
inline std::vector<double> BottomGrad(const ContractRow& row, const std::vector<std::vector<double>>& bottoms,
                                      const std::vector<double>& top_grad) {
  LayerBench bench(row);
  for (size_t k = 0; k < bottoms.size(); ++k) Put(bottoms[k], &bench.bottom[k]->data());
  bench.Forward();
  Put(top_grad, &bench.top[0]->grad());
  bench.Backward();
  return ValuesOf(bench.bottom[0]->grad());
}

// Normal numbers keyed by `what`.
inline std::vector<double> RandomValues(int64_t count, const char* what) {
  std::vector<double> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) values[i] = MakePhilox(5, what).Normal(i);
  return values;
}

// Equal to within `tolerance` of the largest number.
inline void ExpectClose(const std::vector<double>& found, const std::vector<double>& expected,
                        double tolerance, const std::string& what) {
  ASSERT_EQ(found.size(), expected.size()) << what;
  double largest = 1e-3;
  for (double x : expected) largest = std::max(largest, std::abs(x));
  for (size_t i = 0; i < found.size(); ++i) {
    ASSERT_NEAR(found[i], expected[i], tolerance * largest) << what << " element " << i;
  }
}

}  // namespace crema
