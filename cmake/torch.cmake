# libtorch from the PyPI wheel that `make deps` unpacks to .deps/python (no Python at run time).
if(ADZE_SANITIZE OR ADZE_FUZZ)
  return()
endif()
set(ADZE_PYTHON_PACKAGES ${CMAKE_SOURCE_DIR}/.deps/python CACHE PATH
    "folder that holds torch/ and nvidia/; a full installation of the same version works too")
set(torch_root ${ADZE_PYTHON_PACKAGES}/torch)
set(cuda_runtime ${ADZE_PYTHON_PACKAGES}/nvidia/cu13/lib)  # named by libtorch_cpu.so, never used on a CPU
if(NOT EXISTS ${torch_root}/lib/libtorch_cpu.so)
  message(FATAL_ERROR "libtorch is missing in ${ADZE_PYTHON_PACKAGES}; run `make deps`")
endif()
# The wheel also carries the headers of another release of fmt than the one linked: ours come first.
find_path(fmt_headers fmt/format.h REQUIRED)
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/before_torch)
file(CREATE_LINK ${fmt_headers}/fmt ${CMAKE_BINARY_DIR}/before_torch/fmt SYMBOLIC)

add_library(torch INTERFACE)
target_include_directories(torch SYSTEM INTERFACE ${CMAKE_BINARY_DIR}/before_torch
                           ${torch_root}/include
                           ${torch_root}/include/torch/csrc/api/include)
target_link_directories(torch INTERFACE ${torch_root}/lib)
target_link_libraries(torch INTERFACE torch_cpu c10)
# Old-style rpath, because it also serves the libraries that libtorch_cpu.so itself names.
target_link_options(torch INTERFACE -Wl,--allow-shlib-undefined -Wl,--disable-new-dtags)
set(CMAKE_BUILD_RPATH ${torch_root}/lib ${cuda_runtime})
set(CMAKE_INSTALL_RPATH "$ORIGIN/../lib/adze")
set(torch_openmp ${torch_root}/lib/libgomp.so.1)
set(torch_runtime_libraries
    ${torch_root}/lib/libtorch_cpu.so ${torch_root}/lib/libc10.so ${torch_root}/lib/libgomp.so.1
    ${cuda_runtime}/libcupti.so.13 ${cuda_runtime}/libcudart.so.13)
