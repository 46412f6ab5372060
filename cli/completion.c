/* The completion script for bash. In COMP_WORDS bash takes --name=value apart into three words, and png:DIR too. */
#include "cli/completion.h"

#include "cnn/model.h"
#include "core/backends.h"

#include <ctype.h>
#include <string.h>

/* "_cnn_train" */
static void print_function_name(FILE *out, const cnn_tool *tool)
{
    fputc('_', out);
    for (const char *c = tool->name; *c; c++)
        fputc(*c == '-' ? '_' : *c, out);
}

static void print_words(FILE *out, const char *const *words)
{
    for (int i = 0; words[i]; i++)
        fprintf(out, "%s%s", i == 0 ? "" : " ", words[i]);
}

static void print_data_names(FILE *out)
{
    for (int id = CNN_DATASET_NONE + 1; id < CNN_DATASET_PICTURES; id++) {
        const char *name = cnn_dataset_name((cnn_dataset_id)id);
        if (name)
            fprintf(out, "%s ", name);
    }
    fputs("png:", out);
}

static void print_devices(FILE *out)
{
    fputs("auto", out);
    for (int i = 0; cnn_backends[i]; i++)
        fprintf(out, " %s", cnn_backends[i]->name);
}

/* "cpu) words portable avx2 ;;" for each device that can be narrowed down. */
static void print_variants(FILE *out)
{
    for (int i = 0; cnn_backends[i]; i++)
        if (cnn_backends[i]->variants) {
            fprintf(out, "        %s) _cnn_words '", cnn_backends[i]->name);
            print_words(out, cnn_backends[i]->variants);
            fputs("' ;;\n", out);
        }
}

/* First words of the headings, lowered: "model training mixed". */
static void print_topics(FILE *out, const cnn_option_table *tables, int table_count)
{
    fputs("all", out);
    for (int t = 0; t < table_count; t++)
        for (const cnn_option *option = tables[t].options; option->name; option++) {
            if (!option->group)
                continue;
            fputc(' ', out);
            for (const char *c = option->group; isalpha((unsigned char)*c) || *c == '-'; c++)
                fputc(tolower((unsigned char)*c), out);
        }
}

/* The command that completes a value. */
static void print_action(FILE *out, cnn_complete complete, const cnn_option *option, const cnn_option_table *tables,
                         int table_count)
{
    static const char *const endings[] = {
        [CNN_COMPLETE_MODEL] = "cnn", [CNN_COMPLETE_NETWORK] = "cfg", [CNN_COMPLETE_PICTURE] = "png"};
    if (complete == CNN_COMPLETE_NETWORK) {
        fputs("_cnn_words '", out);
        print_words(out, cnn_model_builtin_names());
        fputs("'; ", out);
    }
    switch (complete) {
    case CNN_COMPLETE_NETWORK:
    case CNN_COMPLETE_MODEL:
    case CNN_COMPLETE_PICTURE:
        fprintf(out, "_cnn_files '*.%s'", endings[complete]);
        return;
    case CNN_COMPLETE_DATA:
        fputs("_cnn_words '", out);
        print_data_names(out);
        fputc('\'', out);
        return;
    case CNN_COMPLETE_DEVICE:
        fputs("_cnn_words '", out);
        print_devices(out);
        fputc('\'', out);
        return;
    case CNN_COMPLETE_TOPIC:
        fputs("_cnn_words '", out);
        print_topics(out, tables, table_count);
        fputc('\'', out);
        return;
    case CNN_COMPLETE_BY_ARGUMENT:
        break;
    }
    if (option && option->choices) {
        fputs("_cnn_words '", out);
        print_words(out, option->choices);
        fputc('\'', out);
    } else if (option && option->argument && strcmp(option->argument, "FILE") == 0) {
        fputs("_cnn_files '*'", out);
    } else if (option && option->argument && strcmp(option->argument, "DIR") == 0) {
        fputs("_cnn_folders", out);
    } else {
        fputc(':', out);
    }
}

/* The helpers, the same for each tool; all work on $word. */
static const char helpers[] =
    "_cnn_words() { COMPREPLY+=($(compgen -W \"$1\" -- \"$word\")); }\n"
    "_cnn_folders() { local IFS=$'\\n'; compopt -o filenames 2>/dev/null; COMPREPLY+=($(compgen -d -- \"$word\")); }\n"
    "_cnn_files() { local IFS=$'\\n'; _cnn_folders; COMPREPLY+=($(compgen -f -X \"!$1\" -- \"$word\")); }\n";

/* Option and word that is being typed, after --name value, --name=value and data:folder. */
static const char find_option[] = "    local word=${COMP_WORDS[COMP_CWORD]} option=${COMP_WORDS[COMP_CWORD-1]} given=\n"
                                  "    COMPREPLY=()\n"
                                  "    if [[ $word == : || $option == : ]]; then\n"
                                  "        local before=${COMP_WORDS[COMP_CWORD-2]}\n"
                                  "        [[ $word == : ]] && before=$option && word=\n"
                                  "        case $before in\n"
                                  "        png) _cnn_folders ;;\n";

static void print_option_case(FILE *out, const cnn_option *option, const cnn_option_table *tables, int table_count)
{
    if (option->kind == CNN_OPTION_FLAG)
        return;
    fputs("    ", out);
    if (option->letter && !option->bare)
        fprintf(out, "-%c|", option->letter);
    fprintf(out, "--%s) ", option->name);
    if (option->bare) /* without = the value is a word of its own, which belongs to something else */
        fputs("[[ $given ]] && { ", out);
    print_action(out, option->complete, option, tables, table_count);
    fputs(option->bare ? "; return; } ;;\n" : "; return ;;\n", out);
}

void cnn_completion_print(FILE *out, const cnn_tool *tool, const cnn_option_table *tables, int table_count)
{
    fprintf(out, "# bash completion of %s, written by %s --completion bash\n", tool->name, tool->name);
    fputs(helpers, out);
    print_function_name(out, tool);
    fprintf(out, "()\n{\n%s", find_option);
    print_variants(out);
    fputs("        esac\n        return\n    fi\n"
          "    if [[ $word == '=' ]]; then word= given=1\n"
          "    elif [[ $option == '=' ]]; then option=${COMP_WORDS[COMP_CWORD-2]} given=1\n    fi\n"
          "    case $option in\n",
          out);
    for (int t = 0; t < table_count; t++)
        for (const cnn_option *option = tables[t].options; option->name; option++)
            print_option_case(out, option, tables, table_count);
    fputs("    esac\n    if [[ $word == -* ]]; then\n        _cnn_words '", out);
    for (int t = 0; t < table_count; t++)
        for (const cnn_option *option = tables[t].options; option->name; option++)
            fprintf(out, "--%s ", option->name);
    fputs("'\n    else\n        ", out);
    print_action(out, tool->complete, NULL, tables, table_count);
    fputs("\n    fi\n}\ncomplete -F ", out);
    print_function_name(out, tool);
    fprintf(out, " %s\n", tool->name);
}
