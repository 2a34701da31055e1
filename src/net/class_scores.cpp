#include "net/class_scores.hpp"

#include <cmath>

#include "net/host_values.hpp"

namespace crema {

namespace {

template <class T>
void CheckEach(const Layer& layer, const std::vector<T>& labels, const ClassAxis& axis,
               std::optional<int64_t> ignored, std::vector<int64_t>* out) {
  for (size_t row = 0; row < labels.size(); ++row) {
    const T label = labels[row];
    const bool is_class = label >= 0 && label < static_cast<T>(axis.classes);
    const bool is_ignored = ignored && label == static_cast<T>(*ignored);
    Require(is_class || is_ignored, "layer '", layer.name(), "' (", layer.type(), "): sample ",
            static_cast<int64_t>(row) / axis.inner, " has label ", label, " where one of the ", axis.classes,
            " classes, 0 to ", axis.classes - 1, ", was expected");
    out->push_back(static_cast<int64_t>(label));
  }
}

}  // namespace

ClassAxis SampleClasses(const Layer& layer, const Blob& x, const Blob& label) {
  const std::string who = Concat("layer '", layer.name(), "' (", layer.type(), "): ");
  Require(x.axes() > 0 && x.count(1) > 0, who, "bottom '", x.name(), "' of shape ", ToString(x.shape()),
          " has no classes");
  Require(label.count() == x.num(), who, "bottom '", label.name(), "' has ", label.count(), " labels where ",
          x.num(), " were expected: one for each sample of '", x.name(), "' (", ToString(x.shape()), ")");
  return {x.num(), x.count(1), 1};
}

std::vector<int64_t> CheckedLabels(const Layer& layer, const Blob& label, const ClassAxis& axis,
                                   std::optional<int64_t> ignored) {
  Require(label.count() == axis.rows(), "layer '", layer.name(), "' (", layer.type(), "): bottom '",
          label.name(), "' has ", label.count(), " labels where ", axis.rows(), " were expected");
  std::vector<int64_t> out;
  if (label.dtype() == DType::kI64) {
    CheckEach(layer, HostLabels(label), axis, ignored, &out);
  } else {
    ForReal(label.dtype(),
            [&]<class T>() { CheckEach(layer, label.data().ToHost<T>(), axis, ignored, &out); });
  }
  return out;
}

void WriteScalar(double value, Blob* scalar) {
  ForReal(scalar->dtype(),
          [&]<class T>() { scalar->data().FromHost(std::vector<T>{static_cast<T>(value)}); });
}

}  // namespace crema
