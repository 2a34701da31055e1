// HDF5Data: rows of HDF5 files, each top the dataset of its name, in order or shuffled, each pass the next
// batch.
#include "net/data_layer.hpp"
#include "net/hdf5_rows.hpp"
#include "net/host_values.hpp"

namespace crema {
namespace {

struct HDF5Data final : Layer {
  using Layer::Layer;
  Arity arity() const override { return {0, 0, 1, -1}; }
  bool IsSource() const override { return true; }

  // The ranks tell each other their batches once, so the first call is collective, like building the net.
  void Reshape(const Context& ctx, const Blobs&, const Blobs& top) override {
    const HDF5DataParameter& options = spec().hdf5_data_param();
    if (rows_ == nullptr) {
      Check(!options.source().empty(),
            "hdf5_data_param has no source; a text file that lists HDF5 files was expected");
      Check(options.batch_size() > 0, "hdf5_data_param has no batch_size");
      Check(spec().transform_param().ByteSizeLong() == 0,
            "numbers of HDF5 files are not transformed; take "
            "transform_param away");
      rows_ = std::make_unique<Hdf5Rows>(options.source(),
                                         std::vector<std::string>(spec().top().begin(), spec().top().end()));
      share_ = ShareOfBatch(ctx, options.batch_size());
    }
    for (size_t k = 0; k < top.size(); ++k) {
      Shape shape = rows_->row_shape(k);
      shape.insert(shape.begin(), int64_t{options.batch_size()});
      top[k]->Reshape(ctx.real, shape);
    }
  }

  void Forward(const Context& ctx, const Blobs&, const Blobs& top) override {
    const HDF5DataParameter& options = spec().hdf5_data_param();
    std::vector<std::vector<float>> values(top.size());
    const int64_t first = ctx.pass * share_.global + share_.offset;
    for (int64_t i = 0; i < options.batch_size(); ++i)
      rows_->Append(first + i, options.shuffle(), MixBits(ctx.seed, NameKey("hdf5_data")), &values);
    for (size_t k = 0; k < top.size(); ++k) WriteFloats(values[k], &top[k]->data());
  }

 private:
  std::unique_ptr<Hdf5Rows> rows_;
  BatchShare share_;
};

CREMA_REGISTER_LAYER(HDF5Data, "hdf5_data_param", "transform_param");

}  // namespace
}  // namespace crema
