// DummyData: tops of the shapes given, filled by fillers: constant ones once, others anew in each pass.
#include "crema/layer.hpp"

namespace crema {
namespace {

struct DummyData final : Layer {
  using Layer::Layer;
  Arity arity() const override { return {0, 0, 1, -1}; }

  void Reshape(const Context& ctx, const Blobs&, const Blobs& top) override {
    const DummyDataParameter& o = options();
    const int tops = static_cast<int>(top.size());
    Check(o.data_filler_size() <= 1 || o.data_filler_size() == tops, "it has ", o.data_filler_size(),
          " data_fillers for ", tops, " tops; expected none, one for all or one each");
    const bool older = o.num_size() + o.channels_size() + o.height_size() + o.width_size() > 0;
    Check(!older || o.shape_size() == 0,
          "shape and num, channels, height, width, its older spelling, are both given");
    const auto check_count = [&](const char* what, int found) {
      Check(found == 1 || found == tops, "it has ", found, " of ", what, " for ", tops,
            " tops; expected one for all or one each");
    };
    if (older) {
      check_count("num", o.num_size()), check_count("channels", o.channels_size());
      check_count("height", o.height_size()), check_count("width", o.width_size());
    } else {
      check_count("shape", o.shape_size());
    }
    for (int k = 0; k < tops; ++k)
      top[static_cast<size_t>(k)]->Reshape(ctx.real, older ? OlderShape(k) : ShapeOf(k));
  }

  void Forward(const Context& ctx, const Blobs&, const Blobs& top) override {
    filled_.resize(top.size());
    for (size_t k = 0; k < top.size(); ++k) {
      Blob& y = *top[k];
      const FillerParameter filler = FillerOf(static_cast<int>(k));
      const bool is_done = filler.type() == "constant" && !filled_[k].empty() &&
                           filled_[k].raw() == y.data().raw() && filled_[k].shape() == y.shape();
      if (is_done) continue;
      // As if the tops of all ranks were the rows of one weight.
      Param as_weight;
      as_weight.name = Concat(name(), "/", k);
      as_weight.filler = filler;
      as_weight.shape = y.shape(), as_weight.dtype = y.dtype();
      as_weight.total_rows = as_weight.row_count();
      as_weight.first_row = ctx.comm->rank() * as_weight.row_count();
      as_weight.value = filled_[k] = y.data();
      FillParam(ctx, &as_weight, ctx.pass);
    }
  }

 private:
  const DummyDataParameter& options() const { return spec().dummy_data_param(); }

  FillerParameter FillerOf(int top) const {
    const int fillers = options().data_filler_size();
    return fillers == 0 ? ConstantFiller(0) : options().data_filler(fillers == 1 ? 0 : top);
  }
  Shape ShapeOf(int top) const {
    const BlobShape& shape = options().shape(options().shape_size() == 1 ? 0 : top);
    return Shape(shape.dim().begin(), shape.dim().end());
  }
  Shape OlderShape(int top) const {
    const auto pick = [&](const auto& list) { return int64_t{list[list.size() == 1 ? 0 : top]}; };
    return {pick(options().num()), pick(options().channels()), pick(options().height()),
            pick(options().width())};
  }

  std::vector<Tensor> filled_;  // the memory that was filled last
};

CREMA_REGISTER_LAYER(DummyData, "dummy_data_param");

}  // namespace
}  // namespace crema
