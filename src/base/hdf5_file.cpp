#include "base/hdf5_file.hpp"

#include <hdf5.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <numeric>

namespace crema {
namespace {

std::recursive_mutex& Library() {
  static std::recursive_mutex mutex;
  return mutex;
}

// Something of the library that is closed again.
class Handle {
 public:
  Handle(hid_t id, herr_t (*close)(hid_t)) : id_(id), close_(close) {}
  ~Handle() {
    if (id_ >= 0) close_(id_);
  }
  Handle(const Handle&) = delete;
  bool ok() const { return id_ >= 0; }
  operator hid_t() const { return id_; }

 private:
  hid_t id_;
  herr_t (*close_)(hid_t);
};

int64_t CountOf(const std::vector<int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<int64_t>());
}

std::vector<hsize_t> Sizes(const std::vector<int64_t>& shape) {
  return {shape.begin(), shape.end()};
}

Handle Space(const std::vector<int64_t>& shape, bool grows) {
  std::vector<hsize_t> now = Sizes(shape), most = now;
  if (grows) most[0] = H5S_UNLIMITED, now[0] = 0;
  return {shape.empty() ? H5Screate(H5S_SCALAR)
                        : H5Screate_simple(static_cast<int>(now.size()), now.data(), most.data()),
          H5Sclose};
}

}  // namespace

Hdf5File::Hdf5File(std::string path, Mode mode) : path_(std::move(path)) {
  const std::lock_guard lock(Library());
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);  // what fails is told by an Error
  if (mode == Mode::kCreate) {
    errno = 0;
    file_ = H5Fcreate(path_.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    const int reason = errno;
    Require(file_ >= 0, "cannot create '", path_, "'", reason != 0 ? ": " : "",
            reason != 0 ? std::strerror(reason) : "");
    return;
  }
  struct stat info;
  const bool there = stat(path_.c_str(), &info) == 0;
  Require(there, "cannot read '", path_, "': ", std::strerror(errno));
  file_ = H5Fopen(path_.c_str(), mode == Mode::kRead ? H5F_ACC_RDONLY : H5F_ACC_RDWR, H5P_DEFAULT);
  Require(file_ >= 0, "'", path_, "' is truncated or no HDF5 file");
}

Hdf5File::~Hdf5File() {
  const std::lock_guard lock(Library());
  H5Fclose(file_);
}

bool Hdf5File::Has(const std::string& name) const {
  const std::lock_guard lock(Library());
  for (size_t slash = name.find('/', 1); slash != std::string::npos; slash = name.find('/', slash + 1))
    if (H5Lexists(file_, name.substr(0, slash).c_str(), H5P_DEFAULT) <= 0) return false;
  return H5Lexists(file_, name.c_str(), H5P_DEFAULT) > 0;
}

bool Hdf5File::IsGroup(const std::string& name) const {
  const std::lock_guard lock(Library());
  const Handle object(H5Oopen(file_, name.c_str(), H5P_DEFAULT), H5Oclose);
  return object.ok() && H5Iget_type(object) == H5I_GROUP;
}

std::vector<std::string> Hdf5File::Names(const std::string& group) const {
  const std::lock_guard lock(Library());
  const Handle id(H5Gopen2(file_, group.c_str(), H5P_DEFAULT), H5Gclose);
  Require(id.ok(), "'", path_, "' has no group '", group, "'");
  H5G_info_t info;
  Require(H5Gget_info(id, &info) >= 0, "'", path_, "' is damaged at group '", group, "'");
  std::vector<std::string> names;
  for (hsize_t i = 0; i < info.nlinks; ++i) {
    const ssize_t length =
        H5Lget_name_by_idx(id, ".", H5_INDEX_NAME, H5_ITER_INC, i, nullptr, 0, H5P_DEFAULT);
    Require(length >= 0, "'", path_, "' is damaged at group '", group, "'");
    std::string name(static_cast<size_t>(length) + 1, '\0');
    H5Lget_name_by_idx(id, ".", H5_INDEX_NAME, H5_ITER_INC, i, name.data(), name.size(), H5P_DEFAULT);
    name.pop_back();
    names.push_back(std::move(name));
  }
  return names;
}

std::vector<int64_t> Hdf5File::Shape(const std::string& name) const {
  const std::lock_guard lock(Library());
  const Handle data(H5Dopen2(file_, name.c_str(), H5P_DEFAULT), H5Dclose);
  Require(data.ok(), "'", path_, "' has no dataset '", name, "'");
  const Handle space(H5Dget_space(data), H5Sclose);
  std::vector<hsize_t> sizes(static_cast<size_t>(std::max(0, H5Sget_simple_extent_ndims(space))));
  if (!sizes.empty()) H5Sget_simple_extent_dims(space, sizes.data(), nullptr);
  return {sizes.begin(), sizes.end()};
}

bool Hdf5File::IsDouble(const std::string& name) const {
  const std::lock_guard lock(Library());
  const Handle data(H5Dopen2(file_, name.c_str(), H5P_DEFAULT), H5Dclose);
  Require(data.ok(), "'", path_, "' has no dataset '", name, "'");
  const Handle type(H5Dget_type(data), H5Tclose);
  return H5Tget_class(type) == H5T_FLOAT && H5Tget_size(type) == sizeof(double);
}

void Hdf5File::ReadAs(const std::string& name, int64_t type, int64_t first, int64_t count,
                      void* values) const {
  const std::lock_guard lock(Library());
  const Handle data(H5Dopen2(file_, name.c_str(), H5P_DEFAULT), H5Dclose);
  Require(data.ok(), "'", path_, "' has no dataset '", name, "'");
  const Handle stored(H5Dget_type(data), H5Tclose);
  const H5T_class_t kind = H5Tget_class(stored);
  Require(kind == H5T_FLOAT || kind == H5T_INTEGER, "dataset '", name, "' of '", path_,
          "' holds no numbers; floats or integers were expected");
  std::vector<hsize_t> from = Sizes(Shape(name)), size = from;
  if (from.empty()) {
    const bool read = H5Dread(data, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0;
    Require(read, "dataset '", name, "' of '", path_, "' cannot be read; the file may be cut");
    return;
  }
  std::fill(from.begin(), from.end(), 0);
  from[0] = static_cast<hsize_t>(first), size[0] = static_cast<hsize_t>(count);
  const Handle space(H5Dget_space(data), H5Sclose);
  const Handle memory(H5Screate_simple(static_cast<int>(size.size()), size.data(), nullptr), H5Sclose);
  const bool read =
      H5Sselect_hyperslab(space, H5S_SELECT_SET, from.data(), nullptr, size.data(), nullptr) >= 0 &&
      H5Dread(data, type, memory, space, H5P_DEFAULT, values) >= 0;
  Require(read, "dataset '", name, "' of '", path_, "' cannot be read; the file may be cut");
}

std::vector<float> Hdf5File::Floats(const std::string& name) const {
  const std::vector<int64_t> shape = Shape(name);
  return shape.empty() ? Floats(name, 0, 1) : Floats(name, 0, shape[0]);
}

std::vector<float> Hdf5File::Floats(const std::string& name, int64_t first, int64_t count) const {
  std::vector<int64_t> shape = Shape(name);
  if (!shape.empty()) shape[0] = count;
  std::vector<float> values(static_cast<size_t>(CountOf(shape)));
  if (!values.empty()) ReadAs(name, H5T_NATIVE_FLOAT, first, count, values.data());
  return values;
}

std::vector<double> Hdf5File::Doubles(const std::string& name) const {
  const std::vector<int64_t> shape = Shape(name);
  std::vector<double> values(static_cast<size_t>(CountOf(shape)));
  if (!values.empty()) ReadAs(name, H5T_NATIVE_DOUBLE, 0, shape.empty() ? 1 : shape[0], values.data());
  return values;
}

// A text of fixed length, as Caffe writes them, or of any.
std::string Hdf5File::Text(const std::string& name) const {
  const std::lock_guard lock(Library());
  const Handle data(H5Dopen2(file_, name.c_str(), H5P_DEFAULT), H5Dclose);
  Require(data.ok(), "'", path_, "' has no dataset '", name, "'");
  const Handle type(H5Dget_type(data), H5Tclose);
  Require(H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0, "dataset '", name, "' of '",
          path_, "' holds no text of fixed length");
  std::string text(H5Tget_size(type), '\0');
  const bool read = H5Dread(data, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, text.data()) >= 0;
  Require(read, "dataset '", name, "' of '", path_, "' cannot be read; the file may be cut");
  return text.substr(0, text.find('\0'));
}

void Hdf5File::Make(const std::string& name, const std::vector<int64_t>& shape, bool grows, int64_t type) {
  const Handle link(H5Pcreate(H5P_LINK_CREATE), H5Pclose), create(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  H5Pset_create_intermediate_group(link, 1);
  if (grows) {
    std::vector<hsize_t> chunk = Sizes(shape);
    for (hsize_t& size : chunk) size = std::max<hsize_t>(1, size);
    H5Pset_chunk(create, static_cast<int>(chunk.size()), chunk.data());
  }
  const Handle space = Space(shape, grows);
  const Handle data(H5Dcreate2(file_, name.c_str(), type, space, link, create, H5P_DEFAULT), H5Dclose);
  Require(data.ok(), "cannot make dataset '", name, "' in '", path_, "'");
}

void Hdf5File::WriteAs(const std::string& name, const std::vector<int64_t>& shape, int64_t type,
                       const void* values) {
  const std::lock_guard lock(Library());
  Make(name, shape, false, type);
  const Handle data(H5Dopen2(file_, name.c_str(), H5P_DEFAULT), H5Dclose);
  const bool written = H5Dwrite(data, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0;
  Require(written, "cannot write dataset '", name, "' to '", path_, "'; the disk may be full");
}

void Hdf5File::Write(const std::string& name, const std::vector<int64_t>& shape, const float* values) {
  WriteAs(name, shape, H5T_NATIVE_FLOAT, values);
}
void Hdf5File::Write(const std::string& name, const std::vector<int64_t>& shape, const double* values) {
  WriteAs(name, shape, H5T_NATIVE_DOUBLE, values);
}
void Hdf5File::MakeGroup(const std::string& name) {
  const std::lock_guard lock(Library());
  const Handle group(H5Gcreate2(file_, name.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), H5Gclose);
  Require(group.ok(), "cannot make group '", name, "' in '", path_, "'");
}

void Hdf5File::WriteInteger(const std::string& name, int32_t value) {
  WriteAs(name, {1}, H5T_NATIVE_INT32, &value);
}

void Hdf5File::WriteText(const std::string& name, const std::string& text) {
  const std::lock_guard lock(Library());
  const Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type, text.size() + 1);
  WriteAs(name, {}, type, text.c_str());
}

void Hdf5File::Append(const std::string& name, const std::vector<int64_t>& shape, const float* values) {
  const std::lock_guard lock(Library());
  Require(!shape.empty(), "rows to append to dataset '", name, "' of '", path_, "' have no axis");
  if (!Has(name)) Make(name, shape, true, H5T_NATIVE_FLOAT);
  std::vector<int64_t> whole = Shape(name);
  const bool fits =
      whole.size() == shape.size() && std::equal(whole.begin() + 1, whole.end(), shape.begin() + 1);
  Require(fits, "rows to append to dataset '", name, "' of '", path_, "' have other sizes than those before");
  const Handle data(H5Dopen2(file_, name.c_str(), H5P_DEFAULT), H5Dclose);
  std::vector<hsize_t> from(shape.size(), 0), size = Sizes(shape), grown = Sizes(whole);
  from[0] = grown[0], grown[0] += size[0];
  const bool wider = H5Dset_extent(data, grown.data()) >= 0;
  const Handle space(H5Dget_space(data), H5Sclose);
  const Handle memory(H5Screate_simple(static_cast<int>(size.size()), size.data(), nullptr), H5Sclose);
  const bool written =
      wider && H5Sselect_hyperslab(space, H5S_SELECT_SET, from.data(), nullptr, size.data(), nullptr) >= 0 &&
      H5Dwrite(data, H5T_NATIVE_FLOAT, memory, space, H5P_DEFAULT, values) >= 0;
  Require(written, "cannot write dataset '", name, "' to '", path_, "'; the disk may be full");
}

void Hdf5File::Flush() {
  const std::lock_guard lock(Library());
  Require(H5Fflush(file_, H5F_SCOPE_GLOBAL) >= 0, "cannot write '", path_, "'; the disk may be full");
}

}  // namespace crema
