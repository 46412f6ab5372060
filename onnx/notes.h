/* What a model knows of its data, as notes (metadata_props) of an ONNX file. */
#ifndef CNN_ONNX_NOTES_H
#define CNN_ONNX_NOTES_H

#include "onnx/export.h"
#include "onnx/import.h"

/* Adds the notes to a file that is written; they live as long as the export. */
cnn_status cnn_onnx_write_notes(cnn_onnx_export *export, cnn_onnx_file *file);

/* Reads those that cnnkit knows into a model whose shapes are inferred. */
cnn_status cnn_onnx_read_notes(const cnn_onnx_file *file, cnn_model *model);

#endif
