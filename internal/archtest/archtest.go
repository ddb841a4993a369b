// Package archtest holds the project's rules about its own source as tests:
// which package may import which, what protocol code may not do, and how long a
// file may be. It reads the source; it contains nothing else.
package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const module = "oakley"

// file is one Go file of the module.
type file struct {
	path    string // from the module's root, with slashes
	pkg     string // its folder: "internal/ike", "cmd/isakmpd"
	name    string // of its package clause
	test    bool
	lines   int
	imports []string
	ast     *ast.File
	fset    *token.FileSet
}

// short is the folder without "internal/", by which the rules name packages.
func (f *file) short() string { return strings.TrimPrefix(f.pkg, "internal/") }

func (f *file) at(n ast.Node) string { return f.fset.Position(n.Pos()).String() }

// ours returns the folder of an import of this module, without "internal/".
func ours(path string) (string, bool) {
	rest, ok := strings.CutPrefix(path, module+"/")
	return strings.TrimPrefix(rest, "internal/"), ok
}

// load parses every Go file under root, the module's own and no other's.
func load(root string) ([]*file, error) {
	var files []*file
	fset := token.NewFileSet()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return skipDir(root, rel, d.Name())
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(fset, path, src, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return fmt.Errorf("%s does not parse: %w", rel, err)
		}
		f := &file{
			path:  filepath.ToSlash(rel),
			pkg:   filepath.ToSlash(filepath.Dir(rel)),
			name:  parsed.Name.Name,
			test:  strings.HasSuffix(path, "_test.go"),
			lines: strings.Count(string(src), "\n"),
			ast:   parsed,
			fset:  fset,
		}
		for _, i := range parsed.Imports {
			p, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			f.imports = append(f.imports, p)
		}
		files = append(files, f)
		return nil
	})
	return files, err
}

// skipDir leaves out hidden folders, test data and other modules.
func skipDir(root, rel, name string) error {
	if rel == "." {
		return nil
	}
	if strings.HasPrefix(name, ".") || name == "testdata" || name == "bin" || name == "tmp" {
		return fs.SkipDir
	}
	if _, err := os.Stat(filepath.Join(root, rel, "go.mod")); err == nil {
		return fs.SkipDir
	}
	return nil
}

// calls visits every use of a name from an imported package, as "time.Now".
func (f *file) calls(visit func(n ast.Node, what string)) {
	names := map[string]string{} // the name in this file -> import path
	for i, spec := range f.ast.Imports {
		p := f.imports[i]
		local := p[strings.LastIndex(p, "/")+1:]
		if spec.Name != nil {
			local = spec.Name.Name
		}
		names[local] = p
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if id, ok := sel.X.(*ast.Ident); ok {
			if p, ok := names[id.Name]; ok {
				visit(n, p+"."+sel.Sel.Name)
			}
		}
		return true
	})
}
