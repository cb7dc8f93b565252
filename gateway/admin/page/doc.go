// Package page is the live page.
package page
