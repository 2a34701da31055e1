# What Crema is built on; all of it from Debian's packages (tools/setup.sh installs them).
find_package(Threads REQUIRED)
find_package(Protobuf REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(MPI REQUIRED COMPONENTS C)
find_package(OpenCV REQUIRED COMPONENTS core imgproc imgcodecs)
find_package(dnnl REQUIRED)
pkg_check_modules(GLOG REQUIRED IMPORTED_TARGET libglog)
pkg_check_modules(GFLAGS REQUIRED IMPORTED_TARGET gflags)
pkg_check_modules(LMDB REQUIRED IMPORTED_TARGET lmdb)
pkg_check_modules(OPENBLAS REQUIRED IMPORTED_TARGET openblas)
if(CREMA_OPENMP)
  find_package(OpenMP REQUIRED COMPONENTS CXX)
endif()

# The public headers need protobuf alone.
set(CREMA_PUBLIC_DEPENDENCIES protobuf::libprotobuf)
set(CREMA_PRIVATE_DEPENDENCIES
    $<BUILD_INTERFACE:PkgConfig::GLOG> $<BUILD_INTERFACE:PkgConfig::GFLAGS> $<BUILD_INTERFACE:PkgConfig::LMDB>
    $<BUILD_INTERFACE:PkgConfig::OPENBLAS> $<BUILD_INTERFACE:DNNL::dnnl> $<BUILD_INTERFACE:MPI::MPI_C>
    $<BUILD_INTERFACE:opencv_core> $<BUILD_INTERFACE:opencv_imgproc> $<BUILD_INTERFACE:opencv_imgcodecs>
    $<BUILD_INTERFACE:Threads::Threads>)
