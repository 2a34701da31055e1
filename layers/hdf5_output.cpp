// HDF5Output: appends its bottoms to the datasets "data" and "label" of an HDF5 file, in each pass the rows
// of all ranks.
#include <numeric>

#include "crema/layer.hpp"
#include "net/hdf5_rows.hpp"

namespace crema {
namespace {

struct HDF5Output final : Layer {
  using Layer::Layer;
  Arity arity() const override { return {2, 2, 0, 0}; }
  Layouts layouts() const override { return Layouts::kCaffe; }
  bool BottomHasGradient(int) const override { return false; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs&) override {
    Check(!spec().hdf5_output_param().file_name().empty(), "hdf5_output_param has no file_name");
    Check(bottom[0]->axes() > 0 && bottom[1]->axes() > 0 && bottom[0]->num() == bottom[1]->num(), "bottoms '",
          bottom[0]->name(), "' (", ToString(bottom[0]->shape()), ") and '", bottom[1]->name(), "' (",
          ToString(bottom[1]->shape()), ") found where two of as many samples were expected");
  }

  // The file is closed after each pass, so that it can be read then.
  void Forward(const Context& ctx, const Blobs& bottom, const Blobs&) override {
    Append(ctx, "data", *bottom[0]);
    Append(ctx, "label", *bottom[1]);
  }

 private:
  void Append(const Context& ctx, const char* dataset, const Blob& rows) {
    const std::vector<int64_t> counts = ctx.comm->AllGatherNumber(rows.num());
    Shape shape = rows.shape();
    shape[0] = std::accumulate(counts.begin(), counts.end(), int64_t{0});
    Tensor all(*ctx.device, rows.dtype(), shape);
    ctx.comm->AllGather(rows.data(), counts, &all);
    if (!ctx.comm->root()) return;
    const auto write = [&]<class T>() {
      const std::vector<T> values = all.ToHost<T>();
      AppendHdf5Rows(spec().hdf5_output_param().file_name(), !begun_, dataset, shape,
                     std::vector<float>(values.begin(), values.end()));
    };
    if (all.dtype() == DType::kI64) {
      write.operator()<int64_t>();
    } else {
      ForReal(all.dtype(), write);
    }
    begun_ = true;
  }

  bool begun_ = false;  // whether the file is this run's
};

CREMA_REGISTER_LAYER(HDF5Output, "hdf5_output_param");

}  // namespace
}  // namespace crema
