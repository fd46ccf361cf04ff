# adze_layer(<folder> [LINK <library>...] [ONLY <name>...]): one static library from src/<folder>,
# and its tests (*_test.cpp beside the sources) in one program. A layer sees the layers that
# LAYERS.txt puts below. A folder without sources declares nothing. ONLY: of these names alone.
set(adze_known_layers "" CACHE INTERNAL "layers declared so far, as level:name")

function(adze_layer name)
  cmake_parse_arguments(layer "" "" "LINK;ONLY" ${ARGN})
  file(STRINGS ${CMAKE_SOURCE_DIR}/LAYERS.txt line REGEX "^[0-9]+ ${name}$")
  if(NOT line)
    message(FATAL_ERROR "layer ${name} has no line in LAYERS.txt")
  endif()
  string(REGEX REPLACE " .*" "" level "${line}")

  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${name}/*.cpp)
  if(layer_ONLY)
    list(JOIN layer_ONLY "|" names)
    list(FILTER sources INCLUDE REGEX "/(${names})(_test)?\\.cpp$")
  endif()
  set(tests ${sources})
  set(benches ${sources})
  list(FILTER sources EXCLUDE REGEX "_(test|bench)\\.cpp$")
  list(FILTER sources EXCLUDE REGEX "/main\\.cpp$")
  list(FILTER tests INCLUDE REGEX "_test\\.cpp$")
  list(FILTER benches INCLUDE REGEX "_bench\\.cpp$")
  if(ADZE_CUDA)
    file(GLOB_RECURSE cuda_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${name}/*.cu)
    list(APPEND sources ${cuda_sources})
  endif()
  if(NOT sources)
    return()
  endif()

  set(below "")
  foreach(known ${adze_known_layers})
    string(REPLACE ":" ";" known ${known})
    list(GET known 0 known_level)
    list(GET known 1 known_name)
    if(known_level LESS level)
      list(PREPEND below adze_${known_name})
    endif()
  endforeach()
  add_library(adze_${name} STATIC ${sources})
  target_include_directories(adze_${name} PUBLIC ${CMAKE_SOURCE_DIR}/src)
  target_link_libraries(adze_${name} PUBLIC ${below} ${layer_LINK} PRIVATE adze_warnings)
  set(adze_known_layers ${adze_known_layers} ${level}:${name} CACHE INTERNAL "")

  if(tests AND NOT ADZE_FUZZ)
    add_executable(${name}_test ${tests})
    target_link_libraries(${name}_test PRIVATE adze_${name})
    adze_test_program(${name}_test unit.${name} unit)
  endif()
  if(benches AND NOT ADZE_SANITIZE AND NOT ADZE_FUZZ)
    find_package(benchmark REQUIRED)
    add_executable(${name}_bench EXCLUDE_FROM_ALL ${benches})
    target_link_libraries(${name}_bench PRIVATE adze_${name} adze_warnings
                          benchmark::benchmark_main)
  endif()
endfunction()

# adze_test_program(<target> <test> <label>): makes a program of GoogleTest tests a ctest test.
function(adze_test_program target test label)
  target_link_libraries(${target} PRIVATE adze_warnings GTest::gtest_main)
  # A test need not be fast, but many are compiled: spend less on them than on what they test.
  target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1>)
  if(ADZE_SANITIZE)
    target_compile_options(${target} PRIVATE -O0 -fno-sanitize=undefined)
  endif()
  add_test(NAME ${test} COMMAND ${target} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  adze_test_properties(${test} ${label})
endfunction()

# What every ctest test sees: ADZE is the program, ADZE_SHARED a folder of larger data where a
# check-out has one beside it.
function(adze_test_properties test label)
  set(environment GTEST_BRIEF=1 PYTHONDONTWRITEBYTECODE=1
      PYTHONPATH=${CMAKE_SOURCE_DIR}/tests/support
      UBSAN_OPTIONS=print_stacktrace=1 TSAN_OPTIONS=halt_on_error=1)
  if(TARGET torch)
    list(APPEND environment ADZE=${CMAKE_BINARY_DIR}/adze)
  endif()
  cmake_path(SET shared NORMALIZE ${CMAKE_SOURCE_DIR}/../shared)
  if(IS_DIRECTORY ${shared})
    list(APPEND environment ADZE_SHARED=${shared})
  endif()
  set_tests_properties(${test} PROPERTIES LABELS ${label} ENVIRONMENT "${environment}"
                       SKIP_RETURN_CODE 77)
  # Two programs that each use all cores wait for one another's threads: far slower than in turn.
  # What spends its time starting programs and waiting for them does not.
  if(NOT (label MATCHES "^(unit|cli)$" OR test MATCHES "^integration\\.(pull|.*_commands)$") OR
     test STREQUAL unit.kernels)
    set_tests_properties(${test} PROPERTIES RUN_SERIAL TRUE)
  endif()
endfunction()
