# The build for GPUs with stand-ins for NVIDIA's libraries, which run on the CPU (tests/rehearsal). The headers are
# the real ones.
if(CREMA_CUDA)
  message(FATAL_ERROR "CREMA_CUDA and CREMA_REHEARSAL exclude each other: the one links NVIDIA's libraries, the other stand-ins")
endif()
foreach(header cuda_runtime_api.h cublas_v2.h cudnn.h nccl.h)
  string(MAKE_C_IDENTIFIER ${header} name)
  find_path(CREMA_${name} ${header} HINTS /usr/local/cuda/include ENV CUDA_PATH PATH_SUFFIXES include REQUIRED)
  list(APPEND rehearsal_includes ${CREMA_${name}})
endforeach()
list(REMOVE_DUPLICATES rehearsal_includes)

file(GLOB rehearsal_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/tests/rehearsal/*.cpp)
list(FILTER rehearsal_sources EXCLUDE REGEX "_test.cpp$")
add_library(crema_rehearsal SHARED ${rehearsal_sources})
set_target_properties(crema_rehearsal PROPERTIES UNITY_BUILD OFF)  # a file stands for a library: names recur
target_compile_definitions(crema_rehearsal PUBLIC CREMA_REHEARSAL)
target_include_directories(crema_rehearsal SYSTEM PUBLIC ${rehearsal_includes})
target_include_directories(crema_rehearsal PUBLIC ${CMAKE_CURRENT_SOURCE_DIR}/tests)
target_link_libraries(crema_rehearsal PRIVATE crema_flags PkgConfig::OPENBLAS boost_context rt)
