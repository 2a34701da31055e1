#include <algorithm>

#include "crema/bfloat16.hpp"
#include "crema/layer.hpp"
#include "crema/parallel.hpp"

namespace crema {

namespace {

// Value of element `i` of the whole param, by each rule; a pure function of the index, so that every rank
// fills its own rows of a sharded param as one rank would.
struct Uniform {
  Philox random;
  double low, high;
  CREMA_HD double operator()(int64_t i) const {
    return low + (high - low) * random.Uniform(static_cast<uint64_t>(i));
  }
};

struct Gaussian {
  Philox random, mask;
  double mean, std, keep;  // keep: probability of a non-zero element
  CREMA_HD double operator()(int64_t i) const {
    if (keep < 1 && mask.Uniform(static_cast<uint64_t>(i)) >= keep) return 0;
    return mean + std * random.Normal(static_cast<uint64_t>(i));
  }
};

// Upsampling weights of a [*, *, k, k] filter.
struct Bilinear {
  int64_t k;
  CREMA_HD double operator()(int64_t i) const {
    const double f = static_cast<double>((k + 1) / 2),
                 centre = (2 * f - 1 - static_cast<int64_t>(f) % 2) / (2 * f);
    const double x = static_cast<double>(i % k), y = static_cast<double>(i / k % k);
    return (1 - fabs(x / f - centre)) * (1 - fabs(y / f - centre));
  }
};

struct Constant {
  double value;
  CREMA_HD double operator()(int64_t) const { return value; }
};

template <class T, class Rule>
struct Fill {
  T* out;
  int64_t first;
  Rule rule;
  CREMA_HD void operator()(int64_t i) const { out[i] = static_cast<T>(rule(first + i)); }
};

// Each row scaled to sum 1.
template <class T>
struct NormaliseRow {
  T* out;
  int64_t length;
  CREMA_HD void operator()(int64_t row) const {
    double sum = 0;
    for (int64_t k = 0; k < length; ++k) sum += static_cast<double>(out[row * length + k]);
    for (int64_t k = 0; k < length; ++k)
      out[row * length + k] = static_cast<T>(static_cast<double>(out[row * length + k]) / sum);
  }
};

// Each row scaled to L2 norm 1.
template <class T>
struct UnitRow {
  T* out;
  int64_t length;
  CREMA_HD void operator()(int64_t row) const {
    double square = 0;
    for (int64_t k = 0; k < length; ++k) {
      const double value = static_cast<double>(out[row * length + k]);
      square += value * value;
    }
    for (int64_t k = 0; k < length && square > 0; ++k)
      out[row * length + k] = static_cast<T>(static_cast<double>(out[row * length + k]) / sqrt(square));
  }
};

// n of Caffe's xavier and msra: inputs of an output, outputs of an input, or their mean.
double Fan(const Param& param) {
  const double rows = static_cast<double>(param.total_rows);
  const double row = static_cast<double>(CountOf(param.shape, 1, static_cast<int64_t>(param.shape.size())));
  const double fan_in = row;
  const double fan_out = param.shape.size() > 1 ? rows * row / static_cast<double>(param.shape[1]) : rows;
  switch (param.filler.variance_norm()) {
    case FillerParameter::FAN_OUT:
      return fan_out;
    case FillerParameter::AVERAGE:
      return (fan_in + fan_out) / 2;
    default:
      return fan_in;
  }
}

template <class Rule>
void Apply(const Context& ctx, Param* param, const Rule& rule) {
  const int64_t length = param->row_length();
  ForStored(DType::kF32, param->dtype, [&]<class, class Stored>() {
    ForRowParts(*param, [&](int64_t begin, int64_t end) {
      ForEach(ctx, (end - begin) * length,
              Fill<Stored, Rule>{param->value.template data<Stored>() + begin * length,
                                 (param->first_row + begin) * length, rule});
    });
  });
}

}  // namespace

FillerParameter ConstantFiller(float value) {
  FillerParameter filler;
  filler.set_type("constant");
  filler.set_value(value);
  return filler;
}

void FillParam(const Context& ctx, Param* param, int64_t pass) {
  const FillerParameter& filler = param->filler;
  const std::string& type = filler.type();
  const Philox random = MakePhilox(ctx.seed, "filler/" + param->name, pass);
  if (type == "constant") {
    Apply(ctx, param, Constant{filler.value()});
  } else if (type == "uniform") {
    Apply(ctx, param, Uniform{random, filler.min(), filler.max()});
  } else if (type == "gaussian") {
    const double keep = filler.sparse() >= 0
                            ? static_cast<double>(filler.sparse()) / static_cast<double>(param->total_rows)
                            : 1;
    const Philox mask = MakePhilox(ctx.seed, "sparse/" + param->name, pass);
    Apply(ctx, param, Gaussian{random, mask, filler.mean(), filler.std(), keep});
  } else if (type == "xavier") {
    const double limit = std::sqrt(3.0 / Fan(*param));
    Apply(ctx, param, Uniform{random, -limit, limit});
  } else if (type == "msra") {
    Apply(ctx, param, Gaussian{random, random, 0, std::sqrt(2.0 / Fan(*param)), 1});
  } else if (type == "positive_unitball") {
    Apply(ctx, param, Uniform{random, 0, 1});
    ForStored(DType::kF32, param->dtype, [&]<class, class Stored>() {
      ForEachRow(ctx, param->row_count(),
                 NormaliseRow<Stored>{param->value.data<Stored>(), param->row_length()});
    });
  } else if (type == "gaussian_unitball") {
    Apply(ctx, param, Gaussian{random, random, filler.mean(), filler.std(), 1});
    ForStored(DType::kF32, param->dtype, [&]<class, class Stored>() {
      ForEachRow(ctx, param->row_count(), UnitRow<Stored>{param->value.data<Stored>(), param->row_length()});
    });
  } else if (type == "bilinear") {
    Require(param->shape.size() == 4 && param->shape[2] == param->shape[3], "the bilinear filler of ",
            param->name, " needs a square 4-axis weight, found ", ToString(param->shape));
    Apply(ctx, param, Bilinear{param->shape[3]});
  } else {
    Fail("weight ", param->name, " has the unknown filler '", type,
         "'; known are constant, uniform, gaussian, xavier, msra, positive_unitball, gaussian_unitball and "
         "bilinear");
  }
}

}  // namespace crema
