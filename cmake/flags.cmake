# Compiler flags of everything here. Results must not depend on how a compiler contracts or reorders floating point.
add_library(cnn_flags INTERFACE)
target_compile_options(cnn_flags INTERFACE
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wvla
    -ffp-contract=off -fno-math-errno)
target_compile_definitions(cnn_flags INTERFACE _POSIX_C_SOURCE=200809L _FILE_OFFSET_BITS=64 CNN_VERSION="${PROJECT_VERSION}")
target_include_directories(cnn_flags INTERFACE ${CMAKE_SOURCE_DIR}/include ${CMAKE_SOURCE_DIR})
if(CNN_WERROR)
    target_compile_options(cnn_flags INTERFACE -Werror)
endif()
if(CNN_SANITIZE)
    # Instrumentation hides value ranges from gcc, which then warns of conversions and texts that cannot lose anything.
    target_compile_options(cnn_flags INTERFACE -Wno-conversion $<$<C_COMPILER_ID:GNU>:-Wno-format-truncation>)
    target_compile_options(cnn_flags INTERFACE -fsanitize=${CNN_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
    target_link_options(cnn_flags INTERFACE -fsanitize=${CNN_SANITIZE})
endif()
if(CNN_FUZZ) # libFuzzer steers by which edges of the library an input reaches
    target_compile_options(cnn_flags INTERFACE -fsanitize=fuzzer-no-link)
    target_link_options(cnn_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(CNN_COVERAGE)
    target_compile_options(cnn_flags INTERFACE $<$<NOT:$<BOOL:$<TARGET_PROPERTY:CNN_NOT_COUNTED>>>:--coverage>)
    target_link_options(cnn_flags INTERFACE --coverage)
endif()

# Hardening; the test `hardening` looks for it in what was built. Sanitizers check more and do not go well with it.
option(CNN_HARDEN "Stack protector, checked calls of libc, read-only relocations, position-independent programs, CET" ON)
if(CNN_HARDEN AND NOT CNN_SANITIZE AND NOT CNN_COVERAGE AND NOT CNN_FUZZ)
    include(CheckCCompilerFlag)
    include(CheckPIESupported)
    check_pie_supported(LANGUAGES C) # programs are then linked as CMAKE_POSITION_INDEPENDENT_CODE says
    foreach(flag -fstack-protector-strong -fstack-clash-protection -fcf-protection=full)
        string(MAKE_C_IDENTIFIER CNN_HAS${flag} known)
        check_c_compiler_flag(${flag} ${known})
        if(${known})
            target_compile_options(cnn_flags INTERFACE ${flag})
        endif()
    endforeach()
    target_compile_options(cnn_flags INTERFACE -U_FORTIFY_SOURCE $<$<NOT:$<CONFIG:Debug>>:-D_FORTIFY_SOURCE=2>)
    target_link_options(cnn_flags INTERFACE LINKER:-z,relro LINKER:-z,now LINKER:-z,noexecstack)
else()
    set(CNN_HARDEN OFF)
endif()

# An object library of libcnn.
function(cnn_add_part name)
    add_library(${name} OBJECT ${ARGN})
    target_link_libraries(${name} PRIVATE cnn_flags)
endfunction()

# One of kernels. They take most of the tests' time: a build that counts lines optimizes them and leaves them out, unless asked.
function(cnn_add_kernels name)
    cnn_add_part(${name} ${ARGN})
    if(CNN_COVERAGE AND NOT CNN_COVERAGE_KERNELS)
        set_target_properties(${name} PROPERTIES CNN_NOT_COUNTED ON)
        target_compile_options(${name} PRIVATE -O2)
    endif()
endfunction()

# A command-line tool over the static library.
function(cnn_add_tool name)
    foreach(source IN LISTS ARGN)
        if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${source})
            return()
        endif()
    endforeach()
    add_executable(${name} ${ARGN})
    target_link_libraries(${name} PRIVATE cnn_cli cnn_static cnn_flags)
    install(TARGETS ${name} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
    if(NOT CMAKE_CROSSCOMPILING) # the tool itself writes its completion and its manual page
        install(CODE "
            execute_process(COMMAND \"$<TARGET_FILE:${name}>\" --completion bash
                            OUTPUT_FILE \"${CMAKE_BINARY_DIR}/${name}.bash\" RESULT_VARIABLE completion)
            execute_process(COMMAND \"$<TARGET_FILE:${name}>\" --help=man
                            OUTPUT_FILE \"${CMAKE_BINARY_DIR}/${name}.1\" RESULT_VARIABLE manual)
            if(completion OR manual)
                message(FATAL_ERROR \"${name} cannot write its completion and its manual page\")
            endif()")
        install(FILES ${CMAKE_BINARY_DIR}/${name}.bash RENAME ${name}
                DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
        install(FILES ${CMAKE_BINARY_DIR}/${name}.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
    endif()
endfunction()
