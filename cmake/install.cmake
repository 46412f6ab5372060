# Installation: libraries, headers, pkg-config, CMake package, data script. Tools install where they are defined.
include(CMakePackageConfigHelpers)

install(TARGETS cnn_static cnn_shared EXPORT cnnkit
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/cnn DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(PROGRAMS scripts/get-data DESTINATION ${CMAKE_INSTALL_LIBEXECDIR}/cnnkit)
install(FILES LICENSE README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})

set(CNN_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/cnnkit)
install(EXPORT cnnkit NAMESPACE cnnkit:: FILE cnnkit-targets.cmake DESTINATION ${CNN_PACKAGE_DIR})
configure_package_config_file(cmake/cnnkit-config.cmake.in ${CMAKE_BINARY_DIR}/cnnkit-config.cmake
                              INSTALL_DESTINATION ${CNN_PACKAGE_DIR})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/cnnkit-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/cnnkit-config.cmake ${CMAKE_BINARY_DIR}/cnnkit-config-version.cmake
        DESTINATION ${CNN_PACKAGE_DIR})

configure_file(cmake/cnnkit.pc.in ${CMAKE_BINARY_DIR}/cnnkit.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/cnnkit.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
