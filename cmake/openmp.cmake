# OpenMP by the compiler's flag alone: naming the compiler's libgomp by path would set it against the
# one that libtorch brings, and a program must load only one. The thread sanitizer does not understand
# libgomp (core/parallel.h has its own threads then), and a fuzz target runs on one thread.
add_library(adze_openmp INTERFACE)
if(NOT ADZE_FUZZ AND NOT ADZE_SANITIZE STREQUAL "thread")
  target_compile_options(adze_openmp INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fopenmp>)
  target_link_options(adze_openmp INTERFACE -fopenmp)
endif()
