// Data: images and labels of a database of Datum messages, in order or shuffled, each pass the next batch.
#include <filesystem>

#include "net/data_layer.hpp"

namespace crema {
namespace {

struct Data final : DataLayer {
  using DataLayer::DataLayer;

  Plan Open() const override {
    const DataParameter& param = spec().data_param();
    Require(!param.source().empty(), "data_param has no source");
    CheckBackend(param);
    Plan plan;
    plan.transform = TransformOf(param);
    if (param.force_encoded_color() && !plan.transform.has_force_color())
      plan.transform.set_force_color(true);
    const bool color = plan.transform.force_color(), gray = plan.transform.force_gray();
    Require(!color || !gray, "force_color and force_gray are both set; expected one of them");
    plan.dataset = OpenLmdb(param.source(), color ? Color::kColor : gray ? Color::kGray : Color::kAsStored);
    plan.batch = param.batch_size();
    plan.rand_skip = param.rand_skip();
    plan.prefetch = param.prefetch();
    plan.threads = param.threads();
    plan.shuffle = param.shuffle();
    plan.skip_bad_records = param.skip_bad_records();
    return plan;
  }

 private:
  // LEVELDB is what a file without `backend` says; what counts is what the source is.
  static void CheckBackend(const DataParameter& param) {
    const std::string& source = param.source();
    if (param.backend() != DataParameter::LEVELDB || std::filesystem::exists(source + "/data.mdb")) return;
    Require(!std::filesystem::exists(source + "/CURRENT"), "the database ", source,
            " is a LevelDB, which is not read here; make an LMDB of the images with convert_imageset and set "
            "backend: "
            "LMDB");
    Require(!std::filesystem::exists(source), "the database ", source,
            " is no LMDB, and backend is LEVELDB (as it is where it is not given), which is not read here; "
            "make an "
            "LMDB of the images with convert_imageset and set backend: LMDB");
  }
};

CREMA_REGISTER_LAYER(Data, "data_param", "transform_param");

}  // namespace
}  // namespace crema
