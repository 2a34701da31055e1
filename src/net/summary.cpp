#include "net/summary.hpp"

#include <algorithm>
#include <iomanip>
#include <set>
#include <sstream>

namespace crema {
namespace {

LayerParameter InputLike(const LayerParameter& source, Shape image) {
  if (image[0] == 0) image[0] = SourceBatch(source);
  LayerParameter input;
  input.set_name(source.name());
  input.set_type("Input");
  *input.mutable_top() = source.top();
  *input.mutable_include() = source.include();
  *input.mutable_exclude() = source.exclude();
  for (int i = 0; i < source.top_size(); ++i) {
    BlobShape& shape = *input.mutable_input_param()->add_shape();
    if (i == 0) {
      for (int64_t size : image) shape.add_dim(size);
    } else {
      shape.add_dim(image[0]);
    }
  }
  return input;
}

std::string Join(const std::vector<std::string>& words, const char* separator) {
  std::string all;
  for (const std::string& word : words) all += (all.empty() ? "" : separator) + word;
  return all;
}

// 12,345,678
std::string Grouped(int64_t number) {
  std::string digits = std::to_string(number);
  for (int64_t at = static_cast<int64_t>(digits.size()) - 3; at > 0; at -= 3)
    digits.insert(static_cast<size_t>(at), ",");
  return digits;
}

std::string Megabytes(int64_t bytes) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(1) << static_cast<double>(bytes) / 1e6 << " MB";
  return out.str();
}

}  // namespace

NetParameter ReplaceSources(const NetParameter& spec, const Shape& image) {
  Require(image.size() == 4, "an image blob of shape ", ToString(image),
          " was asked for where N,C,H,W was expected.");
  NetParameter replaced = spec;
  for (LayerParameter& layer : *replaced.mutable_layer()) {
    if (NewLayer(layer)->IsSource()) layer = InputLike(layer, image);
  }
  return replaced;
}

int64_t SourceBatch(const LayerParameter& source) {
  const int64_t batch = source.has_image_data_param() ? source.image_data_param().batch_size()
                                                      : source.data_param().batch_size();
  Require(batch > 0, "layer '", source.name(), "' (", source.type(), "): it has no batch_size");
  return batch;
}

std::vector<LayerSummary> SummaryOf(const Net& net) {
  std::vector<LayerSummary> all;
  std::set<const Param*> counted;
  for (const Net::Step& step : net.steps()) {
    if (step.layer->type() == "Reorder") continue;
    LayerSummary summary{step.layer->name(), step.layer->type(), {}, {}, 0, 0};
    for (const Blob* top : step.top) summary.tops.push_back(top->name() + " " + ToString(top->shape()));
    for (const auto& param : step.layer->params()) {
      const bool weight = param->kind == Param::Kind::kWeight;
      const std::string shape = ToString(param->shape);
      summary.params.push_back(weight ? shape : "(" + shape + ")");
      if (weight && counted.insert(param.get()).second) summary.weights += CountOf(param->shape);
    }
    summary.multiply_adds = step.layer->MultiplyAdds(step.bottom, step.top);
    all.push_back(std::move(summary));
  }
  return all;
}

std::string SummaryTable(const Net& net) {
  const std::vector<LayerSummary> all = SummaryOf(net);
  std::vector<std::vector<std::string>> rows = {
      {"layer", "type", "tops", "weights (statistics)", "values", "multiply-adds"}};
  int64_t weights = 0, multiply_adds = 0;
  for (const LayerSummary& layer : all) {
    rows.push_back({layer.name, layer.type, Join(layer.tops, ", "), Join(layer.params, " "),
                    Grouped(layer.weights), Grouped(layer.multiply_adds)});
    weights += layer.weights;
    multiply_adds += layer.multiply_adds;
  }
  rows.push_back({"total", "", "", "", Grouped(weights), Grouped(multiply_adds)});
  std::vector<size_t> widths(rows[0].size());
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::ostringstream out;
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      const bool number = i >= 4;
      out << (i == 0 ? "" : "  ") << (number ? std::right : std::left)
          << std::setw(static_cast<int>(widths[i])) << row[i];
    }
    out << "\n";
  }
  const MemoryPlan& plan = net.plan();
  out << "memory: " << Megabytes(plan.planned) << " for blobs (" << Megabytes(plan.unplanned)
      << " if none were shared), " << Megabytes(plan.params) << " for parameters, "
      << Megabytes(plan.param_grads) << " for their gradients\n";
  return out.str();
}

}  // namespace crema
