package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
)

// maxFile is the most bytes that are read of a file. The engine has bounds of its
// own; this is against devices and mistakes.
const maxFile = 16 << 20

// read returns what is in a file, or, if its name is "-", in standard input.
func (s *streams) read(name string) (string, error) {
	if name == "-" {
		return readAll("standard input", s.in)
	}
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return readAll(name, f)
}

func readAll(name string, from io.Reader) (string, error) {
	b, err := io.ReadAll(io.LimitReader(from, maxFile+1))
	if err != nil {
		return "", err
	}
	if len(b) > maxFile {
		return "", fmt.Errorf("%s has more than %d bytes; is it the right file?", name, maxFile)
	}
	return string(b), nil
}

// write opens a file, or gives standard output if its name is "-", and hands it to
// fill. A regular file gets the mode, whatever it had before.
func (s *streams) write(name string, mode fs.FileMode, fill func(io.Writer) error) error {
	if name == "-" {
		return fill(s.out)
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, mode)
	if err != nil {
		return err
	}
	err = fillFile(f, mode, fill)
	if closing := f.Close(); err == nil {
		err = closing
	}
	return err
}

// fillFile narrows the mode before there is anything in the file to be read.
func fillFile(f *os.File, mode fs.FileMode, fill func(io.Writer) error) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Mode().IsRegular() {
		if err := f.Truncate(0); err != nil {
			return err
		}
		if extra := info.Mode().Perm() &^ mode; extra != 0 {
			if err := f.Chmod(info.Mode().Perm() & mode); err != nil {
				return err
			}
		}
	}
	return fill(f)
}
